"""The part of S3's protocol that deployment tools need to upload code: path style, signed for ``s3``.

Buckets, objects with versions and ranges, uploads in parts, listing. Bodies are held in memory
within a budget; larger objects come in parts.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from pilotlight.control.gateway.bodies import ByteBudget, read_body
from pilotlight.control.gateway.exchange import Exchange
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.note import current_note
from pilotlight.control.staging.chunks import unchunked
from pilotlight.control.staging.objects import PART_BYTES, PARTS_MAX, Refused, Staging
from pilotlight.model.errors import ApiError, PlatformError
from pilotlight.ports.auth import Caller
from pilotlight.wire.lambda_api import HttpAnswer
from pilotlight.wire.sigv4 import UNSIGNED_CHUNKS
from pilotlight.wire.staged import ObjectVersion

SERVICE: Final = "s3"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KEY_BYTES = 1024
_XML_BYTES = 1024 * 1024
_FRAMING = 8
"""Chunks may add an eighth to a body."""
_PAGE = 1000
_UPLOADS = frozenset({("PUT", "object"), ("PUT", "part")})
_PARAMETERS = frozenset(
    {"list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after",
     "encoding-type", "fetch-owner", "versionId", "uploads", "uploadId", "partNumber", "location",
     "versioning", "x-id"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of which bucket and object."""

    exchange: Exchange
    caller: Caller
    bucket: str
    name: str
    query: Mapping[str, str]
    body: bytes

    @property
    def version(self) -> str | None:
        return self.query.get("versionId")


Handler = Callable[[_Request], Awaitable[HttpAnswer]]


class StagingProtocol:
    """A responder for requests whose signature names the service ``s3``."""

    def __init__(
        self, staging: Staging, authenticator: MeteredAuthenticator, budget: ByteBudget
    ) -> None:
        self._staging = staging
        self._authenticator = authenticator
        self._budget = budget
        self._handlers: Mapping[tuple[str, str], Handler] = {
            ("GET", "service"): self._list_buckets,
            ("PUT", "bucket"): self._make_bucket,
            ("HEAD", "bucket"): self._head_bucket,
            ("DELETE", "bucket"): self._remove_bucket,
            ("GET", "bucket"): self._list,
            ("GET", "location"): self._location,
            ("GET", "versioning"): self._versioning,
            ("PUT", "versioning"): self._head_bucket,
            ("PUT", "object"): self._put,
            ("GET", "object"): self._get,
            ("HEAD", "object"): self._head,
            ("DELETE", "object"): self._remove,
            ("POST", "uploads"): self._begin,
            ("PUT", "part"): self._put_part,
            ("POST", "upload"): self._complete,
            ("DELETE", "upload"): self._abort,
        }

    async def respond(self, exchange: Exchange) -> HttpAnswer:
        """Answer one request; errors have the form of this protocol."""
        try:
            return await self._run(exchange)
        except PlatformError as error:
            body = (
                f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{escape(error.code)}</Code>'
                f"<Message>{escape(str(error))}</Message>"
                f"<RequestId>{exchange.request_id}</RequestId></Error>"
            )
            is_head = exchange.method == "HEAD"
            return _answer(exchange, error.http_status, "" if is_head else body)

    async def _run(self, exchange: Exchange) -> HttpAnswer:
        bucket, _, name = unquote(exchange.path.removeprefix("/")).partition("/")
        query = dict(parse_qsl(exchange.query, keep_blank_values=True))
        kind = _kind(exchange.method, bucket, name, query)
        current_note().operation, current_note().resource = f"{exchange.method} {kind}", bucket
        pending = self._authenticator.begin(exchange.signed, services=frozenset({SERVICE}))
        handler = self._handlers.get((exchange.method, kind))
        strange = [n for n in query if n not in _PARAMETERS and not n.startswith("X-Amz-")]
        if handler is None or strange or _has_signed_chunks(exchange):
            raise Refused(
                "NotImplemented",
                "Staging has no such operation: it takes buckets, objects, versions, ranges and "
                "uploads in parts, with signed or unsigned bodies and chunks that are not signed each.",
                501,
            )
        if bucket and _BUCKET.fullmatch(bucket) is None:
            raise Refused("InvalidBucketName", "The specified bucket is not valid.")
        if len(name.encode()) > _KEY_BYTES:
            raise Refused("KeyTooLongError", "Your key is too long")
        with self._budget.share(pending.access_key) as share:
            most = PART_BYTES if (exchange.method, kind) in _UPLOADS else _XML_BYTES
            is_chunked = exchange.header("x-amz-content-sha256") == UNSIGNED_CHUNKS
            body = await read_body(
                exchange.receive,
                declared=exchange.declared_length(),
                most=most + most // _FRAMING if is_chunked else most,
                operation=kind,
                share=share,
            )
            caller = pending.finish(body.sha256)
            data, trailers = body.data, dict[str, str]()
            if is_chunked:
                share.take(len(body.data))
                data, trailers = await asyncio.to_thread(unchunked, body.data)
            if len(data) > most:
                raise Refused("EntityTooLarge", f"A body has at most {most} bytes.")
            _check_sums({**exchange.headers(), **trailers}, data)
            return await handler(_Request(exchange, caller, bucket, name, query, data))

    # Buckets.

    async def _list_buckets(self, request: _Request) -> HttpAnswer:
        found = await self._staging.buckets(request.caller.account)
        listed = "".join(
            f"<Bucket><Name>{escape(known.name)}</Name>"
            f"<CreationDate>{_iso(known.created_s)}</CreationDate></Bucket>"
            for known in found
        )
        owner = f"<Owner><ID>{request.caller.account}</ID></Owner>"
        return _document(request, "ListAllMyBucketsResult", f"{owner}<Buckets>{listed}</Buckets>")

    async def _make_bucket(self, request: _Request) -> HttpAnswer:
        await self._staging.make_bucket(request.caller.account, request.bucket)
        return _answer(request.exchange, 200, "", (b"Location", f"/{request.bucket}".encode()))

    async def _head_bucket(self, request: _Request) -> HttpAnswer:
        await self._staging.check_bucket(request.caller.account, request.bucket)
        region = request.caller.region.encode()
        return _answer(request.exchange, 200, "", (b"x-amz-bucket-region", region))

    async def _remove_bucket(self, request: _Request) -> HttpAnswer:
        await self._staging.remove_bucket(request.caller.account, request.bucket)
        return _answer(request.exchange, 204, "")

    async def _location(self, request: _Request) -> HttpAnswer:
        await self._staging.check_bucket(request.caller.account, request.bucket)
        region = request.caller.region
        return _document(request, "LocationConstraint", "" if region == "us-east-1" else region)

    async def _versioning(self, request: _Request) -> HttpAnswer:
        await self._staging.check_bucket(request.caller.account, request.bucket)
        return _document(request, "VersioningConfiguration", "<Status>Enabled</Status>")

    async def _list(self, request: _Request) -> HttpAnswer:
        query = request.query
        if query.get("delimiter"):
            raise Refused("NotImplemented", "Listing with a delimiter is not supported.", 501)
        limit = min(_number(query, "max-keys", _PAGE), _PAGE)
        token, prefix = query.get("continuation-token"), query.get("prefix", "")
        after = _untoken(token) if token else query.get("start-after", "")
        found = await self._staging.page(
            request.caller.account, request.bucket, prefix=prefix, after=after, limit=limit + 1
        )
        shown = found[:limit]
        contents = "".join(
            f"<Contents><Key>{escape(known.name)}</Key>"
            f"<LastModified>{_iso(known.versions[0].modified_s)}</LastModified>"
            f"<ETag>&quot;{known.versions[0].etag}&quot;</ETag>"
            f"<Size>{known.versions[0].size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for known in shown
        )
        rest = len(found) > limit
        following = ""
        if rest and shown:
            following = f"<NextContinuationToken>{_token(shown[-1].name)}</NextContinuationToken>"
        return _document(
            request,
            "ListBucketResult",
            f"<Name>{request.bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(shown)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
            f"<IsTruncated>{str(rest).lower()}</IsTruncated>{following}{contents}",
        )

    # Objects.

    async def _put(self, request: _Request) -> HttpAnswer:
        version = await self._staging.put(
            request.caller.account, request.bucket, request.name, request.body, _type(request)
        )
        return _answer(request.exchange, 200, "", *_marks(version))

    async def _found(self, request: _Request) -> ObjectVersion:
        return await self._staging.find(
            request.caller.account, request.bucket, request.name, request.version
        )

    async def _get(self, request: _Request) -> HttpAnswer:
        version = await self._found(request)
        data = await self._staging.read(version)
        wanted = request.exchange.header("range")
        described = _described(version)
        if wanted is None:
            return HttpAnswer(200, [*_headers(request.exchange), *described], data)
        first, last = _span(wanted, len(data))
        described.append((b"Content-Range", f"bytes {first}-{last}/{len(data)}".encode()))
        return HttpAnswer(206, [*_headers(request.exchange), *described], data[first : last + 1])

    async def _head(self, request: _Request) -> HttpAnswer:
        version = await self._found(request)
        length = (b"Content-Length", str(version.size).encode())
        return HttpAnswer(200, [*_headers(request.exchange), *_described(version), length], b"")

    async def _remove(self, request: _Request) -> HttpAnswer:
        await self._staging.remove(
            request.caller.account, request.bucket, request.name, request.version
        )
        return _answer(request.exchange, 204, "")

    # Uploads in parts.

    async def _begin(self, request: _Request) -> HttpAnswer:
        upload = await self._staging.begin(
            request.caller.account, request.bucket, request.name, _type(request)
        )
        return _document(
            request,
            "InitiateMultipartUploadResult",
            f"<Bucket>{request.bucket}</Bucket><Key>{escape(request.name)}</Key>"
            f"<UploadId>{upload}</UploadId>",
        )

    async def _put_part(self, request: _Request) -> HttpAnswer:
        number = _number(request.query, "partNumber", 0)
        if not 1 <= number <= PARTS_MAX:
            raise Refused("InvalidArgument", f"Part number must be from 1 to {PARTS_MAX}.")
        part = await self._staging.put_part(
            request.caller.account, request.bucket, request.name, request.query["uploadId"],
            number, request.body,
        )  # fmt: skip
        return _answer(request.exchange, 200, "", (b"ETag", f'"{part.md5}"'.encode()))

    async def _complete(self, request: _Request) -> HttpAnswer:
        version = await self._staging.complete(
            request.caller.account, request.bucket, request.name, request.query["uploadId"],
            _parts_of(request.body),
        )  # fmt: skip
        return _document(
            request,
            "CompleteMultipartUploadResult",
            f"<Bucket>{request.bucket}</Bucket><Key>{escape(request.name)}</Key>"
            f"<ETag>&quot;{version.etag}&quot;</ETag>",
            (b"x-amz-version-id", version.id.encode()),
        )

    async def _abort(self, request: _Request) -> HttpAnswer:
        await self._staging.abort(
            request.caller.account, request.bucket, request.name, request.query["uploadId"]
        )
        return _answer(request.exchange, 204, "")


def _kind(method: str, bucket: str, name: str, query: Mapping[str, str]) -> str:
    """What a request is about."""
    if not bucket:
        return "service"
    if not name:
        return next((n for n in ("location", "versioning") if n in query), "bucket")
    if "uploads" in query:
        return "uploads"
    if "uploadId" in query:
        return "part" if method == "PUT" and "partNumber" in query else "upload"
    return "object"


def _has_signed_chunks(exchange: Exchange) -> bool:
    """The body has a coding of its own that is not taken apart here."""
    declared = exchange.header("x-amz-content-sha256") or ""
    is_coded = "aws-chunked" in (exchange.header("content-encoding") or "")
    return declared != UNSIGNED_CHUNKS and (declared.startswith("STREAMING-") or is_coded)


def _check_sums(headers: Mapping[str, str], body: bytes) -> None:
    """Compare the sums that came along, before the body or after it.

    Raises:
        Refused: BadDigest.
    """
    md5 = headers.get("content-md5")
    crc = headers.get("x-amz-checksum-crc32")
    sha = headers.get("x-amz-checksum-sha256")
    computed: list[tuple[str, bytes]] = []
    if md5 is not None:
        computed.append((md5, hashlib.md5(body, usedforsecurity=False).digest()))
    if crc is not None:
        computed.append((crc, zlib.crc32(body).to_bytes(4, "big")))
    if sha is not None:
        computed.append((sha, hashlib.sha256(body).digest()))
    for given, digest in computed:
        if given != base64.b64encode(digest).decode("ascii"):
            raise Refused("BadDigest", "The checksum you specified did not match what we received.")


def _number(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name)
    if text is None:
        return otherwise
    if not text.isdecimal() or len(text) > 9:  # noqa: PLR2004
        raise Refused("InvalidArgument", f"{name} is not a number.")
    return int(text)


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode("ascii")


def _untoken(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise Refused("InvalidArgument", "The continuation token provided is incorrect") from None


def _type(request: _Request) -> str:
    return (request.exchange.header("content-type") or "binary/octet-stream")[:256]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _marks(version: ObjectVersion) -> list[tuple[bytes, bytes]]:
    return [
        (b"ETag", f'"{version.etag}"'.encode()),
        (b"x-amz-version-id", version.id.encode()),
    ]


def _described(version: ObjectVersion) -> list[tuple[bytes, bytes]]:
    modified = format_datetime(datetime.fromtimestamp(version.modified_s, UTC), usegmt=True)
    return [
        *_marks(version),
        (b"Content-Type", version.content_type.encode("latin-1", "replace")),
        (b"Last-Modified", modified.encode()),
        (b"Accept-Ranges", b"bytes"),
    ]


def _span(text: str, size: int) -> tuple[int, int]:
    """First and last byte of a range.

    Raises:
        ApiError: InvalidRange.
    """
    match = _RANGE.fullmatch(text)
    refused = ApiError("InvalidRange", "The requested range is not satisfiable", status=416)
    if match is None or not (match[1] or match[2]):
        raise refused
    if not match[1]:
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
    if first > last or first >= size:
        raise refused
    return first, last


def _parts_of(body: bytes) -> list[tuple[int, str]]:
    """Numbers and ETags of a CompleteMultipartUpload.

    Raises:
        Refused: MalformedXML.
    """
    malformed = Refused("MalformedXML", "The XML you provided was not well-formed.")
    if b"<!" in body:  # no entities, no document types
        raise malformed
    try:
        root = ET.fromstring(body)  # noqa: S314  (declarations are refused above)
        found = [
            (int(_child(part, "PartNumber")), _child(part, "ETag"))
            for part in root
            if part.tag.endswith("Part")
        ]
    except (ET.ParseError, ValueError) as error:
        raise malformed from error
    return found


def _child(part: ET.Element, name: str) -> str:
    for child in part:
        if child.tag.endswith(name):
            return child.text or ""
    raise ValueError(name)


def _headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    return [(b"x-amz-request-id", exchange.request_id.encode())]


def _answer(exchange: Exchange, status: int, body: str, *more: tuple[bytes, bytes]) -> HttpAnswer:
    headers = [*_headers(exchange), *more]
    if body:
        headers.append((b"Content-Type", b"application/xml"))
    return HttpAnswer(status, headers, body.encode("utf-8", "replace"))


def _document(request: _Request, name: str, content: str, *more: tuple[bytes, bytes]) -> HttpAnswer:
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    body = f'{head}<{name} xmlns="{_NAMESPACE}">{content}</{name}>'
    return _answer(request.exchange, 200, body, *more)
