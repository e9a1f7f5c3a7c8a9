"""Signatures at their edges: what botocore signs is right, what anybody bent is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.model.errors import ApiError
from pilotlight.ports.auth import SignedRequest
from pilotlight.wire import sigv4

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "the/token=="
BODY = b'{"a": 1}'
SHA = hashlib.sha256(BODY).hexdigest()
Bend = Callable[[SignedRequest], SignedRequest]


def bytes_of(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def signed(
    path: str = "/2015-03-31/functions/f",
    query: str = "",
    *,
    auth: Any = SigV4Auth,
    token: str | None = None,
    service: str = "lambda",
    headers: dict[str, str] | None = None,
    method: str = "POST",
    body: bytes = BODY,
) -> SignedRequest:
    """What a server sees of a request that botocore signed."""
    url = f"http://127.0.0.1:9700{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=headers or {}, data=body)
    auth(Credentials(KEY, SECRET, token), service, "eu-west-1").add_auth(request)
    prepared = request.prepare()
    where = urlsplit(prepared.url)
    sent = [(k.lower().encode(), bytes_of(v)) for k, v in prepared.headers.items()]
    if not any(name == b"host" for name, _ in sent):
        sent.append((b"host", where.netloc.encode()))
    return SignedRequest(prepared.method.encode(), where.path.encode(), where.query.encode(), sent)


def time_of(request: SignedRequest) -> float:
    stamp = dict(request.headers).get(b"x-amz-date")
    text = stamp or request.query.partition(b"X-Amz-Date=")[2][:16]
    return datetime.strptime(text.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def check(
    request: SignedRequest, sha256: str | None = SHA, *, now_s: float, service: str = "lambda"
) -> sigv4.Verified:
    return sigv4.verify(
        request,
        secret_of={KEY: SECRET}.get,
        now_s=now_s,
        services=frozenset({service}),
        cache=sigv4.SigningKeys(),
        body_sha256=sha256,
    )


def header(name: bytes, change: Callable[[bytes], bytes | None]) -> Bend:
    def bend(request: SignedRequest) -> SignedRequest:
        kept = []
        for known, value in request.headers:
            new = change(value) if known == name else value
            if new is not None:
                kept.append((known, new))
        return replace(request, headers=kept)

    return bend


def added(*pairs: tuple[bytes, bytes]) -> Bend:
    return lambda request: replace(request, headers=[*request.headers, *pairs])


def swapped(old: bytes, new: bytes) -> Bend:
    def swap(value: bytes) -> bytes:
        assert old in value
        return value.replace(old, new, 1)

    return header(b"authorization", swap)


HARMLESS: dict[str, Bend] = {
    "headers in another order": lambda r: replace(r, headers=list(reversed(r.headers))),
    "blanks around a value": header(b"x-amz-log-type", lambda v: b"  " + v + b"\t "),
    "tabs within the header": swapped(b", SignedHeaders", b",\t SignedHeaders"),
    "no blanks in the header": swapped(b", SignedHeaders", b",SignedHeaders"),
    "parts in another order": header(
        b"authorization",
        lambda v: b"AWS4-HMAC-SHA256 " + b", ".join(reversed(v[17:].split(b", "))),
    ),
    "names of signed headers in upper case": swapped(b"host;", b"HOST;"),
    "a header that proxies add": added((b"x-forwarded-for", b"1.2.3.4"), (b"via", b"1.1 p")),
    "a trace header that is not signed": added((b"x-amzn-trace-id", b"Root=1-2-3")),
    "a Date beside the date that is signed": added((b"date", b"Mon, 01 Jan 2001 00:00:00 GMT")),
    "query in another order": lambda r: replace(r, query=b"b=2&a=1"),
    "query encoded needlessly": lambda r: replace(r, query=b"%61=1&b=%32"),
}
HOSTILE: dict[str, tuple[Bend, str]] = {
    "two signatures": (
        lambda r: added((b"authorization", dict(r.headers)[b"authorization"]))(r),
        "IncompleteSignatureException",
    ),
    "a second, empty one": (added((b"authorization", b"")), "IncompleteSignatureException"),
    "a second date": (added((b"x-amz-date", b"20300101T000000Z")), "IncompleteSignatureException"),
    "a second host": (added((b"host", b"evil.example")), "InvalidSignatureException"),
    "a second value of a signed header": (
        added((b"x-amz-log-type", b"None")),
        "InvalidSignatureException",
    ),
    "a second hash": (
        added((b"x-amz-content-sha256", SHA.encode()), (b"x-amz-content-sha256", SHA.encode())),
        "InvalidSignatureException",
    ),
    "an unsigned hash": (
        added((b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")),
        "InvalidSignatureException",
    ),
    "an unsigned token": (
        added((b"x-amz-security-token", b"stolen")),
        "InvalidSignatureException",
    ),
    "a signed header that did not come": (
        header(b"x-amz-log-type", lambda _: None),
        "InvalidSignatureException",
    ),
    "a signed header that came empty": (
        header(b"x-amz-log-type", lambda _: b""),
        "InvalidSignatureException",
    ),
    "no host signed": (swapped(b"host;", b""), "InvalidSignatureException"),
    "another algorithm": (
        swapped(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA1"),
        "IncompleteSignatureException",
    ),
    "the asymmetric algorithm": (
        swapped(b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256"),
        "IncompleteSignatureException",
    ),
    "a basic password": (
        header(b"authorization", lambda _: b"Basic cm9vdDpyb290"),
        "IncompleteSignatureException",
    ),
    "nothing but the algorithm": (
        header(b"authorization", lambda _: b"AWS4-HMAC-SHA256"),
        "IncompleteSignatureException",
    ),
    "an empty credential": (
        swapped(b"Credential=" + KEY.encode(), b"Credential="),
        "IncompleteSignatureException",
    ),
    "a credential of six parts": (
        swapped(b"/aws4_request", b"/x/aws4_request"),
        "IncompleteSignatureException",
    ),
    "a credential of four parts": (swapped(b"/lambda/", b"/"), "IncompleteSignatureException"),
    "another region": (swapped(b"/eu-west-1/", b"/eu-west-2/"), "InvalidSignatureException"),
    "a region that is none": (swapped(b"/eu-west-1/", b"/EU*/"), "IncompleteSignatureException"),
    "another service": (swapped(b"/lambda/", b"/iam/"), "InvalidSignatureException"),
    "another terminator": (
        swapped(b"/aws4_request", b"/aws4_reques"),
        "InvalidSignatureException",
    ),
    "another day": (
        swapped(KEY.encode() + b"/20", KEY.encode() + b"/19"),
        "InvalidSignatureException",
    ),
    "another key": (swapped(KEY.encode(), b"AKIDOTHER"), "UnrecognizedClientException"),
    "an empty signature": (
        header(b"authorization", lambda v: v[:-64]),
        "IncompleteSignatureException",
    ),
    "a signature in upper case": (
        header(b"authorization", lambda v: v[:-64] + v[-64:].upper() + b"A"),
        "InvalidSignatureException",
    ),
    "a date in another form": (
        header(b"x-amz-date", lambda v: v[:4] + b"-" + v[4:]),
        "IncompleteSignatureException",
    ),
    "a date that is none": (
        header(b"x-amz-date", lambda v: v[:4] + b"1399T000000Z"),
        "IncompleteSignatureException",
    ),
    "no date": (header(b"x-amz-date", lambda _: None), "IncompleteSignatureException"),
    "another path, the same after normalising twice": (
        lambda r: replace(r, path=b"/2015-03-31/functions/%2566"),
        "InvalidSignatureException",
    ),
    "another query": (lambda r: replace(r, query=b"a=1&b=2&b=2"), "InvalidSignatureException"),
    "a long header": (
        header(b"authorization", lambda v: v + b" " * 9000 + b"x"),
        "IncompleteSignatureException",
    ),
}


def example() -> SignedRequest:
    return signed(query="a=1&b=2", headers={"X-Amz-Log-Type": "Tail"})


@pytest.mark.parametrize("name", HARMLESS)
def test_what_proxies_and_clients_may_change_changes_nothing(name: str) -> None:
    request = example()
    verified = check(HARMLESS[name](request), now_s=time_of(request))
    assert (verified.access_key, verified.region) == (KEY, "eu-west-1")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bent_request_is_refused_with_the_code_for_it(name: str) -> None:
    bend, code = HOSTILE[name]
    request = example()
    with pytest.raises(ApiError) as caught:
        check(bend(request), now_s=time_of(request))
    assert (caught.value.code, caught.value.status) == (code, 403)
    assert SECRET not in caught.value.message


def test_the_same_signature_is_good_again_while_its_time_lasts() -> None:
    """Retries of clients and connections repeat it; the service accepts them too."""
    request = example()
    for offset in (0, 0, -300, 300):
        check(request, now_s=time_of(request) + offset)
    for offset in (-301, 301):
        with pytest.raises(ApiError, match="Signature"):
            check(request, now_s=time_of(request) + offset)


def test_a_header_wins_over_a_query_and_both_are_not_mixed() -> None:
    request = example()
    other = replace(request, query=b"a=1&b=2&X-Amz-Signature=" + b"0" * 64)
    with pytest.raises(ApiError) as caught:
        check(other, now_s=time_of(request))
    assert caught.value.code == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"X-Amz-Expires=3600", b"X-Amz-Expires=604800"),
        (b"X-Amz-Expires=3600", b"X-Amz-Expires=3600&X-Amz-Expires=7200"),
        (b"X-Amz-SignedHeaders=host", b"X-Amz-SignedHeaders="),
        (b"X-Amz-SignedHeaders=host", b"X-Amz-SignedHeaders=x"),
        (b"%2Flambda%2F", b"%2Fs3%2F"),
        (b"X-Amz-Algorithm=AWS4-HMAC-SHA256", b"X-Amz-Algorithm=none"),
        (b"X-Amz-Security-Token=", b"X-Amz-Security-Token=x"),
        (b"X-Amz-Signature=", b"x-amz-signature="),
        (b"X-Amz-Signature=", b"X-Amz-Signature=0"),
    ],
)
def test_a_bent_presigned_url_is_refused(old: bytes, new: bytes) -> None:
    request = signed(auth=SigV4QueryAuth, method="GET", body=b"", token=TOKEN)
    now_s = time_of(request)
    verified = check(request, sigv4.EMPTY_SHA256, now_s=now_s)
    assert (verified.is_presigned, verified.session_token) == (True, TOKEN)
    assert old in request.query
    with pytest.raises(ApiError) as caught:
        check(
            replace(request, query=request.query.replace(old, new)),
            sigv4.EMPTY_SHA256,
            now_s=now_s,
        )
    assert caught.value.status == 403


SEGMENT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
NAME = st.text("abcABC-_.~ é%&=+/", min_size=1, max_size=6)


@given(
    st.lists(SEGMENT, max_size=4),
    st.lists(st.tuples(NAME, SEGMENT), max_size=5),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    st.sampled_from([None, TOKEN]),
)
def test_whatever_botocore_signs_is_right(
    segments: list[str], pairs: list[tuple[str, str]], value: str, token: str | None
) -> None:
    path = "/" + "/".join(quote(part, safe="") for part in segments)
    query = "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in pairs)
    request = signed(path, query, token=token, headers={"X-Amz-Any": value})
    assert check(request, now_s=time_of(request)).session_token == token


# -- the one service with other rules -----------------------------------------------------------

S3_PATHS = [
    "/bucket/key",
    "/bucket/a//b/../c/./d",
    "/b/%C3%BC%20x%2By",
    "/b/a%2Fb",
    "/b/~-_.%21%2A%27",
]


@pytest.mark.parametrize("path", S3_PATHS)
def test_paths_of_objects_are_signed_as_they_are(path: str) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html: objects may
    have any name, so nothing is normalised and nothing encoded twice."""
    request = signed(path, auth=S3SigV4Auth, service="s3", method="PUT")
    check(request, now_s=time_of(request), service="s3")
    bent = replace(request, path=request.path + b"/../x")
    with pytest.raises(ApiError):
        check(bent, now_s=time_of(request), service="s3")


@pytest.mark.parametrize("path", S3_PATHS)
def test_presigned_urls_of_objects_leave_the_payload_open(path: str) -> None:
    request = signed(path, auth=S3SigV4QueryAuth, service="s3", method="PUT", body=b"")
    verified = check(request, SHA, now_s=time_of(request), service="s3")
    assert verified.body_sha256 is None
    with pytest.raises(ApiError):
        check(replace(request, method=b"GET"), now_s=time_of(request), service="s3")


def test_other_services_never_take_the_rules_of_objects() -> None:
    request = signed("/a//b", auth=S3SigV4Auth, service="lambda")
    with pytest.raises(ApiError):
        check(request, now_s=time_of(request))
    presigned = signed("/a", auth=S3SigV4QueryAuth, service="lambda", method="GET", body=b"")
    with pytest.raises(ApiError):
        check(presigned, sigv4.EMPTY_SHA256, now_s=time_of(presigned))
