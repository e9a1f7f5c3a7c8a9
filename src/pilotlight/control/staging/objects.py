"""Staged objects: buckets, versions and uploads in parts, over records and blobs.

Each part is a blob of its own name, written before the record that names it and removed after the
record that does not name it any more. What an interruption leaves is removed at the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence

from pilotlight.control.registry.collection import Collection
from pilotlight.model.errors import PlatformError
from pilotlight.ports.blobs import BlobStore
from pilotlight.ports.clock import Clock
from pilotlight.ports.ids import IdSource
from pilotlight.ports.registry import RegistryStore
from pilotlight.wire import records, staged
from pilotlight.wire.staged import BucketRecord, ObjectRecord, ObjectVersion, Part, UploadRecord

PREFIX = "staging/"
VERSIONS_KEPT = 10
"""Versions of one object; older ones go when a newer one comes."""
ACCOUNT_BYTES = 4 * 1024 * 1024 * 1024
"""Staged bytes of one account, parts of unfinished uploads included."""
PART_BYTES = 128 * 1024 * 1024
"""Largest body of one upload."""
PARTS_MAX = 1000
UPLOADS_MAX = 100


class Missing(PlatformError):
    """There is no such bucket, object, version or upload; ``code`` is S3's."""

    http_status = 404

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Refused(PlatformError):
    """S3 would refuse it; ``code`` is S3's."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = status


class Staging:
    """The staged objects of all accounts. A `Part`: at start it removes what nobody names."""

    name = "staging"

    def __init__(self, store: RegistryStore, blobs: BlobStore, clock: Clock, ids: IdSource) -> None:
        self._buckets = Collection(store, staged.BUCKET, BucketRecord)
        self._objects = Collection(store, staged.OBJECT, ObjectRecord)
        self._uploads = Collection(store, staged.UPLOAD, UploadRecord)
        self._blobs = blobs
        self._clock = clock
        self._ids = ids

    async def sweep(self) -> None:
        """Remove blobs that no record names; nothing may be uploaded meanwhile."""
        named = {part.blob for part in _parts(await self._objects.everything())}
        for upload in await self._uploads.everything():
            parts = {part.blob for part in upload.parts.values()}
            if parts & named:  # its completion was interrupted after the object was made
                await self._uploads.change(upload.account, upload.id, lambda _: None)
            else:
                named |= parts
        for blob in await self._blobs.names(PREFIX):
            if blob not in named:
                await self._blobs.delete(blob)

    # Buckets.

    async def buckets(self, account: str) -> tuple[BucketRecord, ...]:
        """Buckets of an account by name."""
        return await self._buckets.everything(account)

    async def make_bucket(self, account: str, name: str) -> None:
        """Make a bucket.

        Raises:
            Refused: BucketAlreadyOwnedByYou.
        """
        record = BucketRecord(name=name, created_s=self._clock.wall())
        if not await self._buckets.create(account, name, record):
            raise Refused(
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
                409,
            )

    async def check_bucket(self, account: str, name: str) -> BucketRecord:
        """The bucket.

        Raises:
            Missing: NoSuchBucket.
        """
        found = await self._buckets.get(account, name)
        if found is None:
            raise Missing("NoSuchBucket", "The specified bucket does not exist")
        return found

    async def remove_bucket(self, account: str, name: str) -> None:
        """Remove an empty bucket.

        Raises:
            Missing: NoSuchBucket.
            Refused: BucketNotEmpty.
        """
        await self.check_bucket(account, name)
        if await self._objects.page(account, prefix=f"{name}/", limit=1):
            raise Refused("BucketNotEmpty", "The bucket you tried to delete is not empty", 409)
        await self._buckets.change(account, name, lambda _: None)

    # Objects.

    async def put(
        self, account: str, bucket: str, name: str, data: bytes, content_type: str
    ) -> ObjectVersion:
        """Store a version of an object; durable when it returns.

        Raises:
            Missing: NoSuchBucket.
            Refused: the account's room is used up.
        """
        await self.check_bucket(account, bucket)
        part = await self._part(account, data)
        return await self._add(account, bucket, name, (part,), part.md5, content_type)

    async def _part(self, account: str, data: bytes) -> Part:
        await self._check_room(account, len(data))
        blob = f"{PREFIX}{self._ids.uuid()}"
        await self._blobs.put(blob, data)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Part(blob=blob, size=len(data), md5=md5)

    async def _check_room(self, account: str, size: int) -> None:
        held = sum(part.size for part in _parts(await self._objects.everything(account)))
        for upload in await self._uploads.everything(account):
            held += sum(part.size for part in upload.parts.values())
        if held + size > ACCOUNT_BYTES:
            raise Refused(
                "QuotaExceeded",
                f"The account would hold more than {ACCOUNT_BYTES} staged bytes: delete objects.",
            )

    async def _add(
        self, account: str, bucket: str, name: str, parts: Sequence[Part], etag: str, kind: str
    ) -> ObjectVersion:
        version = ObjectVersion(
            id=self._ids.token(32), parts=tuple(parts), etag=etag,
            modified_s=self._clock.wall(), content_type=kind,
        )  # fmt: skip
        key = staged.object_key(bucket, name)
        fresh = ObjectRecord(account=account, bucket=bucket, name=name, versions=(version,))
        if await self._objects.create(account, key, fresh):
            return version
        dropped: list[ObjectVersion] = []

        def newer(old: ObjectRecord) -> ObjectRecord:
            versions = (version, *old.versions)
            dropped[:] = versions[VERSIONS_KEPT:]
            return records.replaced(old, versions=versions[:VERSIONS_KEPT])

        if await self._objects.change(account, key, newer) is None:
            await self._objects.create(account, key, fresh)
        await self._remove(part for old in dropped for part in old.parts)
        return version

    async def find(
        self, account: str, bucket: str, name: str, version: str | None = None
    ) -> ObjectVersion:
        """A version of an object, the newest where none is named.

        Raises:
            Missing: NoSuchBucket, NoSuchKey or NoSuchVersion.
        """
        await self.check_bucket(account, bucket)
        record = await self._objects.get(account, staged.object_key(bucket, name))
        if record is None:
            raise Missing("NoSuchKey", "The specified key does not exist.")
        if version is None:
            return record.versions[0]
        for known in record.versions:
            if known.id == version:
                return known
        raise Missing("NoSuchVersion", "The specified version does not exist.")

    async def package(self, account: str, bucket: str, key: str, version: str | None) -> bytes:
        """A whole object, for a function or a layer.

        Raises:
            Missing: with S3's code and text.
        """
        return await self.read(await self.find(account, bucket, key, version))

    async def read(self, version: ObjectVersion) -> bytes:
        """Content of a version.

        Raises:
            Missing: NoSuchKey, it was removed meanwhile.
        """
        try:
            pieces = [await self._blobs.get(part.blob) for part in version.parts]
        except KeyError:
            raise Missing("NoSuchKey", "The specified key does not exist.") from None
        return b"".join(pieces)

    async def remove(self, account: str, bucket: str, name: str, version: str | None) -> None:
        """Remove an object, or one version of it; absent is no error.

        Raises:
            Missing: NoSuchBucket.
        """
        await self.check_bucket(account, bucket)
        dropped: list[ObjectVersion] = []

        def rule(old: ObjectRecord) -> ObjectRecord | None:
            kept = tuple(v for v in old.versions if version is not None and v.id != version)
            dropped[:] = [v for v in old.versions if v not in kept]
            return records.replaced(old, versions=kept) if kept else None

        await self._objects.change(account, staged.object_key(bucket, name), rule)
        await self._remove(part for old in dropped for part in old.parts)

    async def page(
        self, account: str, bucket: str, *, prefix: str, after: str, limit: int
    ) -> tuple[ObjectRecord, ...]:
        """Objects by name: those that start with ``prefix`` and sort after ``after``.

        Raises:
            Missing: NoSuchBucket.
        """
        await self.check_bucket(account, bucket)
        key = staged.object_key(bucket, after) if after else ""
        whole = staged.object_key(bucket, prefix)
        return await self._objects.page(account, prefix=whole, after=key, limit=limit)

    # Uploads in parts.

    async def begin(self, account: str, bucket: str, name: str, content_type: str) -> str:
        """Begin an upload in parts; return its id.

        Raises:
            Missing: NoSuchBucket.
            Refused: too many are begun.
        """
        await self.check_bucket(account, bucket)
        if len(await self._uploads.everything(account)) >= UPLOADS_MAX:
            raise Refused("SlowDown", "Too many uploads are begun: complete or abort some.", 503)
        upload = UploadRecord(
            account=account, id=self._ids.token(32), bucket=bucket, name=name,
            content_type=content_type, started_s=self._clock.wall(),
        )  # fmt: skip
        await self._uploads.create(account, upload.id, upload)
        return upload.id

    async def put_part(
        self, account: str, bucket: str, name: str, upload: str, number: int, data: bytes
    ) -> Part:
        """Store a part; one of the same number is replaced.

        Raises:
            Missing: NoSuchUpload.
        """
        await self._upload(account, bucket, name, upload)
        part = await self._part(account, data)
        former: list[Part] = []

        def rule(old: UploadRecord) -> UploadRecord:
            former[:] = [old.parts[str(number)]] if str(number) in old.parts else []
            return records.replaced(old, parts={**old.parts, str(number): part})

        if await self._uploads.change(account, upload, rule) is None:
            await self._remove([part])
            raise _no_upload()
        await self._remove(former)
        return part

    async def _upload(self, account: str, bucket: str, name: str, upload: str) -> UploadRecord:
        found = await self._uploads.get(account, upload)
        if found is None or (found.bucket, found.name) != (bucket, name):
            raise _no_upload()
        return found

    async def complete(
        self, account: str, bucket: str, name: str, upload: str, wanted: Sequence[tuple[int, str]]
    ) -> ObjectVersion:
        """Make an object of parts, by number and ETag in ascending order.

        Raises:
            Missing: NoSuchUpload.
            Refused: InvalidPart or InvalidPartOrder.
        """
        begun = await self._upload(account, bucket, name, upload)
        numbers = [number for number, _ in wanted]
        if not wanted or numbers != sorted(set(numbers)):
            raise Refused("InvalidPartOrder", "The list of parts was not in ascending order.")
        parts = [begun.parts.get(str(number)) for number in numbers]
        chosen = [
            part for part, (_, etag) in zip(parts, wanted, strict=True)
            if part is not None and etag.strip('"') == part.md5
        ]  # fmt: skip
        if len(chosen) != len(wanted):
            raise Refused("InvalidPart", "One or more of the specified parts could not be found.")
        joined = b"".join(bytes.fromhex(part.md5) for part in chosen)
        digest = hashlib.md5(joined, usedforsecurity=False).hexdigest()
        version = await self._add(
            account, bucket, name, chosen, f"{digest}-{len(chosen)}", begun.content_type
        )
        await self._uploads.change(account, upload, lambda _: None)
        await self._remove(part for part in begun.parts.values() if part not in chosen)
        return version

    async def abort(self, account: str, bucket: str, name: str, upload: str) -> None:
        """Forget an upload and its parts.

        Raises:
            Missing: NoSuchUpload.
        """
        await self._upload(account, bucket, name, upload)
        gone = await self._uploads.change(account, upload, lambda _: None)
        if gone is not None:  # an interrupted completion may have given parts to an object
            used = {part.blob for part in _parts(await self._objects.everything(account))}
            await self._remove(part for part in gone.parts.values() if part.blob not in used)

    async def _remove(self, parts: Iterable[Part]) -> None:
        for part in parts:
            await self._blobs.delete(part.blob)

    async def run(self, ready: Callable[[], None]) -> None:
        """Remove what an earlier run left, then be ready until cancelled."""
        await self.sweep()
        ready()
        await asyncio.Event().wait()


def _parts(objects: Iterable[ObjectRecord]) -> list[Part]:
    return [part for known in objects for version in known.versions for part in version.parts]


def _no_upload() -> Missing:
    return Missing(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have "
        "been aborted or completed.",
    )
