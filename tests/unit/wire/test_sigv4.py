"""Signatures: botocore's are right, anything else is refused."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotlight.model.errors import ApiError
from pilotlight.ports.auth import SignedRequest
from pilotlight.wire import sigv4
from pilotlight.wire.sigv4.canonical import signing_key

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "the/token=="
LAMBDA = frozenset({"lambda"})
BODY = b'{"a": 1}'
SHA = hashlib.sha256(BODY).hexdigest()
MISMATCH = "The request signature we calculated does not match the signature you provided. "
PATHS = [
    "/",
    "/2015-03-31/functions/hello/invocations",
    "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Af/invocations",
    "/2015-03-31/functions/arn:aws:lambda/invocations",
    "/%C3%BC/%E6%97%A5/a%2Fb/%25",
    "/a//b///c",
    "/a/./b/../c/",
    "/~a_b-c.d/.hidden/x y",
    "/a+b$c,d;e=f@g!'()*",
]
QUERIES = [
    "",
    "Qualifier=",
    "Qualifier",
    "b=2&a=1",
    "a=2&a=1&a=10",
    "tagKeys=a%26b&tagKeys=c%20d",
    "x=%C3%BC&X=1&x-=3&x~=4",
]


def bytes_of(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def received(prepared: Any) -> SignedRequest:
    """What a server sees of a request of botocore."""
    url = urlsplit(prepared.url)
    headers = [(k.lower().encode(), bytes_of(v)) for k, v in prepared.headers.items()]
    if not any(name == b"host" for name, _ in headers):
        headers.append((b"host", url.netloc.encode()))
    return SignedRequest(prepared.method.encode(), url.path.encode(), url.query.encode(), headers)


def signed_by_botocore(
    path: str = "/2015-03-31/functions/f/invocations",
    query: str = "",
    *,
    auth: Any = SigV4Auth,
    token: str | None = None,
    service: str = "lambda",
    headers: dict[str, str] | None = None,
    method: str = "POST",
    body: bytes = BODY,
) -> SignedRequest:
    url = f"http://127.0.0.1:9700{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=headers or {}, data=body)
    auth(Credentials(KEY, SECRET, token), service, "eu-west-1").add_auth(request)
    return received(request.prepare())


def time_of(request: SignedRequest) -> float:
    text = header(request, b"x-amz-date") or request.query.partition(b"X-Amz-Date=")[2][:16]
    return datetime.strptime(text.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def header(request: SignedRequest, name: bytes) -> bytes:
    return dict(request.headers).get(name, b"")


def with_header(request: SignedRequest, name: bytes, value: bytes | None) -> SignedRequest:
    headers = [item for item in request.headers if item[0] != name]
    return replace(request, headers=headers + ([(name, value)] if value is not None else []))


def edited(request: SignedRequest, old: bytes, new: bytes) -> SignedRequest:
    value = header(request, b"authorization")
    assert old in value
    return with_header(request, b"authorization", value.replace(old, new))


def check(
    request: SignedRequest, body_sha256: str | None = SHA, *, now_s: float | None = None
) -> sigv4.Verified:
    return sigv4.verify(
        request,
        secret_of={KEY: SECRET}.get,
        now_s=time_of(request) if now_s is None else now_s,
        services=LAMBDA,
        cache=sigv4.SigningKeys(),
        body_sha256=body_sha256,
    )


def refusal(
    request: SignedRequest, body_sha256: str | None = SHA, *, now_s: float = 0.0
) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check(request, body_sha256, now_s=now_s)
    assert caught.value.status == 403
    return caught.value


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_signatures_of_botocore_are_right(path: str, query: str) -> None:
    request = signed_by_botocore(path, query)
    assert check(request) == sigv4.Verified(KEY, "eu-west-1", "lambda", SHA)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_presigned_urls_of_botocore_are_right(path: str, query: str) -> None:
    request = signed_by_botocore(path, query, auth=SigV4QueryAuth, method="GET", body=b"")
    verified = check(request, sigv4.EMPTY_SHA256)
    assert verified.is_presigned
    assert verified.access_key == KEY


def test_headers_are_folded_as_botocore_folds_them() -> None:
    headers = {"X-Amz-Client-Context": "  a   b\t c ", "Content-Type": "text/plain;  x"}
    assert check(signed_by_botocore(headers=headers)).access_key == KEY


def test_blanks_around_values_and_repeated_headers_change_nothing() -> None:
    request = signed_by_botocore(headers={"X-Amz-Log-Type": "a,b"})
    spaced = [(name, b" " + value + b" ") for name, value in request.headers]
    spaced = [item for item in spaced if item[0] != b"x-amz-log-type"]
    spaced += [(b"x-amz-log-type", b" a"), (b"x-amz-log-type", b"b ")]
    now_s = time_of(request)
    assert check(replace(request, headers=spaced), now_s=now_s).access_key == KEY
    twice = [*request.headers, (b"authorization", header(request, b"authorization"))]
    error = refusal(replace(request, headers=twice), now_s=now_s)
    assert error.code == "IncompleteSignatureException"


def test_a_date_header_may_stand_for_the_amazon_one() -> None:
    request = signed_by_botocore(headers={"Date": "any"})
    assert not header(request, b"x-amz-date")
    when = parsedate_to_datetime(header(request, b"date").decode()).replace(tzinfo=UTC)
    assert check(request, now_s=when.timestamp()).access_key == KEY


def test_a_session_token_is_handed_on() -> None:
    verified = check(signed_by_botocore(token=TOKEN))
    assert verified.session_token == TOKEN
    request = signed_by_botocore(auth=SigV4QueryAuth, token=TOKEN, method="GET", body=b"")
    assert check(request, sigv4.EMPTY_SHA256).session_token == TOKEN


def client() -> BaseClient:
    return boto3.client(
        "lambda",
        endpoint_url="http://127.0.0.1:9700",
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


def test_requests_of_boto3_are_right_and_need_the_hash_of_their_body() -> None:
    sent: list[Any] = []

    def keep(request: Any, **_: object) -> None:
        sent.append(request)
        raise InterruptedError

    lambda_client: Any = client()
    lambda_client.meta.events.register("before-send.lambda.*", keep)
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    for call, params in (
        ("invoke", {"FunctionName": arn, "Payload": b"{}", "InvocationType": "Event"}),
        ("list_functions", {}),
        ("get_function", {"FunctionName": "f", "Qualifier": "$LATEST"}),
        ("untag_resource", {"Resource": arn, "TagKeys": ["b c", "a+/="]}),
    ):
        with suppress(InterruptedError):
            getattr(lambda_client, call)(**params)
        request = received(sent[-1])
        pending = sigv4.begin(
            request,
            secret_of={KEY: SECRET}.get,
            now_s=time_of(request),
            services=LAMBDA,
            cache=sigv4.SigningKeys(),
        )
        assert pending.needs_body_hash
        body = hashlib.sha256(sent[-1].body or b"").hexdigest()
        assert pending.finish(body).region == "us-east-1"
        with pytest.raises(ApiError, match=MISMATCH):
            pending.finish(SHA)
        with pytest.raises(ValueError, match="hash of the body"):
            pending.finish()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda r: replace(r, method=b"PUT"), MISMATCH),
        (lambda r: replace(r, path=r.path + b"x"), MISMATCH),
        (lambda r: replace(r, query=b"a=1&b=3"), MISMATCH),
        (lambda r: replace(r, query=b"a=1"), MISMATCH),
        (lambda r: replace(r, query=b"a=1&b=2&c=3"), MISMATCH),
        (lambda r: with_header(r, b"host", b"evil"), MISMATCH),
        (lambda r: with_header(r, b"x-amz-log-type", b"None"), MISMATCH),
        (lambda r: with_header(r, b"x-amz-log-type", None), MISMATCH),
        (lambda r: with_header(r, b"x-amz-evil", b"1"), "There were headers present in the "),
        (lambda r: edited(r, b";x-amz-log-type", b""), "There were headers present in the "),
        (lambda r: edited(r, b"SignedHeaders=host;", b"SignedHeaders="), "'Host' or ':auth"),
        (lambda r: edited(r, b"/eu-west-1/", b"/us-east-1/"), MISMATCH),
        (lambda r: edited(r, b"/lambda/", b"/s3/"), "Credential should be scoped to correct "),
        (lambda r: edited(r, b"aws4_request", b"aws5_request"), "Credential should be scoped w"),
        (lambda r: edited(r, KEY.encode() + b"/2", KEY.encode() + b"/3"), "Date in Credential"),
        (lambda r: edited(r, b"Signature=", b"Signature=0"), MISMATCH),
        (
            lambda r: with_header(
                r, b"authorization", header(r, b"authorization")[:-64] + b"\xe9" * 64
            ),
            MISMATCH,
        ),
    ],
)
def test_a_change_of_any_part_is_refused(changed: Any, message: str) -> None:
    request = signed_by_botocore(query="a=1&b=2", headers={"X-Amz-Log-Type": "Tail"})
    check(request)
    error = refusal(changed(request), now_s=time_of(request))
    assert error.code == "InvalidSignatureException"
    assert error.message.startswith(message)


def test_another_body_is_refused() -> None:
    request = signed_by_botocore()
    error = refusal(request, sigv4.EMPTY_SHA256, now_s=time_of(request))
    assert (error.code, error.message[: len(MISMATCH)]) == ("InvalidSignatureException", MISMATCH)


def test_every_part_of_a_presigned_url_is_signed() -> None:
    request = signed_by_botocore(auth=SigV4QueryAuth, query="a=1", method="GET", body=b"")
    now_s = time_of(request)
    for old, new in (
        (b"a=1", b"a=2"),
        (b"Expires=3600", b"Expires=604800"),
        (b"eu-west-1", b"us-east-1"),
        (b"&X-Amz-Signature=", b"&b=1&X-Amz-Signature="),
    ):
        changed = replace(request, query=request.query.replace(old, new))
        error = refusal(changed, sigv4.EMPTY_SHA256, now_s=now_s)
        assert error.message.startswith(MISMATCH)


def test_an_unknown_key_is_refused_before_the_body() -> None:
    request = signed_by_botocore()
    with pytest.raises(ApiError) as caught:
        sigv4.begin(
            request,
            secret_of={"OTHER": SECRET}.get,
            now_s=time_of(request),
            services=LAMBDA,
            cache=sigv4.SigningKeys(),
        )
    assert caught.value.code == "UnrecognizedClientException"
    assert caught.value.message == "The security token included in the request is invalid."


def test_a_clock_may_be_off_by_five_minutes_either_way() -> None:
    request = signed_by_botocore()
    at_s = time_of(request)
    check(request, now_s=at_s + 300)
    check(request, now_s=at_s - 300)
    assert refusal(request, now_s=at_s + 301).message.startswith("Signature expired: ")
    assert refusal(request, now_s=at_s - 301).message.startswith("Signature not yet current: ")


def test_the_texts_about_time_are_those_of_the_service() -> None:
    request = SignedRequest(b"GET", b"/", b"", [(b"host", b"h")])
    at_s = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
    signer = sigv4.SigningCredentials(KEY, SECRET)
    added = sigv4.sign(
        request,
        credentials=signer,
        region="us-east-1",
        service="lambda",
        now_s=at_s,
        body_sha256=SHA,
    )
    signed = replace(request, headers=[*request.headers, *added])
    assert refusal(signed, now_s=at_s + 600).message == (
        "Signature expired: 20150830T123600Z is now earlier than 20150830T124100Z "
        "(20150830T124600Z - 5 min.)"
    )
    assert refusal(signed, now_s=at_s - 600).message == (
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123100Z "
        "(20150830T122600Z + 5 min.)"
    )


def test_a_presigned_url_is_good_until_it_expires() -> None:
    request = signed_by_botocore(auth=SigV4QueryAuth, method="GET", body=b"")
    at_s = time_of(request)
    check(request, sigv4.EMPTY_SHA256, now_s=at_s + 3600)
    error = refusal(request, sigv4.EMPTY_SHA256, now_s=at_s + 3601)
    assert error.message.startswith("Signature expired: ")


@pytest.mark.parametrize("query", ["", "a=1", "x-amz-signature=1"])
def test_an_unsigned_request_is_refused(query: str) -> None:
    error = refusal(SignedRequest(b"GET", b"/", query.encode(), [(b"host", b"h")]))
    assert error.code == "MissingAuthenticationTokenException"
    assert error.message == "Missing Authentication Token"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"Bearer token", "Authorization header requires 'Credential' parameter. "),
        (b"AWS4-HMAC-SHA256", "Authorization header must be a list of distinct key=value pairs"),
        (b"AWS4-HMAC-SHA256 a", "Authorization header must be a list of distinct key=value"),
        (b"AWS4-HMAC-SHA256 a=1,a=2", "Authorization header must be a list of distinct"),
        (b"AWS4-HMAC-SHA256 Credential=a/b/c/d/e", "Authorization header requires 'Signature'"),
        (
            b"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c",
            "Credential must have exactly 5 slash-delimited elements",
        ),
        (
            b"AWS4-HMAC-SHA256 Credential=a/b/C:D/d/e, SignedHeaders=host, Signature=c",
            "Credential should be scoped to a valid region, not 'C:D'.",
        ),
        (b"A" * 100_000, "Authorization header is too long. "),
    ],
)
def test_an_incomplete_signature_says_what_is_missing(value: bytes, message: str) -> None:
    request = signed_by_botocore()
    error = refusal(with_header(request, b"authorization", value), now_s=time_of(request))
    assert error.code == "IncompleteSignatureException"
    assert error.message.startswith(message)
    assert "token" not in error.message


def test_a_signature_without_a_date_is_incomplete() -> None:
    request = signed_by_botocore()
    error = refusal(with_header(request, b"x-amz-date", None))
    assert error.code == "IncompleteSignatureException"
    assert "existence of either a 'X-Amz-Date' or a 'Date' header" in error.message
    error = refusal(with_header(request, b"x-amz-date", b"20150830T999999Z"))
    assert error.message.startswith("Date must be in ISO-8601 'basic format'. Got '2015")


@pytest.mark.parametrize("expires", [b"0", b"604801", b"-1", b"x", b"", b"0000000000600"])
def test_a_presigned_url_lives_at_most_a_week(expires: bytes) -> None:
    request = signed_by_botocore(auth=SigV4QueryAuth, method="GET", body=b"")
    query = request.query.replace(b"X-Amz-Expires=3600", b"X-Amz-Expires=" + expires)
    error = refusal(replace(request, query=query), now_s=time_of(request))
    assert error.code == "IncompleteSignatureException"
    assert error.message.startswith("X-Amz-Expires must be a number of seconds")


def test_a_parameter_of_a_presigned_url_occurs_once() -> None:
    request = signed_by_botocore(auth=SigV4QueryAuth, method="GET", body=b"")
    error = refusal(replace(request, query=request.query + b"&X-Amz-Expires=9"))
    assert error.message == "AWS query-string parameter 'X-Amz-Expires' must occur once."
    error = refusal(replace(request, query=b"X-Amz-Signature=1"))
    assert error.message.startswith("AWS query-string parameters must include 'X-Amz-Algorithm'.")


def ours(body_sha256: str, *, path: bytes = b"/a%3Ab//c", query: bytes = b"b=&a=%20") -> Any:
    request = SignedRequest(
        b"POST",
        path,
        query,
        [(b"host", b"127.0.0.1:9700"), (b"user-agent", b"x"), (b"x-amz-log-type", b"Tail")],
    )
    added = sigv4.sign(
        request,
        credentials=sigv4.SigningCredentials(KEY, SECRET, "token"),
        region="us-east-1",
        service="lambda",
        now_s=1_700_000_000.5,
        body_sha256=body_sha256,
    )
    return replace(request, headers=[*request.headers, *added])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_botocore_computes_our_signatures(path: str, query: str) -> None:
    request = ours(SHA, path=path.encode(), query=query.encode())
    headers = {name.decode(): value.decode() for name, value in request.headers}
    authorization = headers.pop("authorization")
    theirs = AWSRequest("POST", f"http://127.0.0.1:9700{path}?{query}", headers=headers)
    theirs.context["timestamp"] = headers["x-amz-date"]
    auth: Any = SigV4Auth(Credentials(KEY, SECRET), "lambda", "us-east-1")
    to_sign = auth.string_to_sign(theirs, auth.canonical_request(theirs))
    assert authorization.endswith(f"Signature={auth.signature(to_sign, theirs)}")


def test_a_declared_hash_is_compared_before_the_body() -> None:
    pending = sigv4.begin(
        ours(SHA),
        secret_of={KEY: SECRET}.get,
        now_s=1_700_000_000,
        services=LAMBDA,
        cache=sigv4.SigningKeys(),
    )
    assert (pending.needs_body_hash, pending.body_sha256) == (False, SHA)
    assert pending.finish() == pending.finish(SHA)
    assert pending.finish().body_sha256 == SHA
    with pytest.raises(ApiError, match="does not match the SHA-256 of the payload"):
        pending.finish(sigv4.EMPTY_SHA256)


def test_an_unsigned_payload_may_be_anything() -> None:
    verified = check(ours(sigv4.UNSIGNED_PAYLOAD), None)
    assert verified.body_sha256 is None
    assert check(ours(sigv4.UNSIGNED_PAYLOAD), SHA).body_sha256 is None


@pytest.mark.parametrize("declared", ["", "x", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", SHA.upper()])
def test_other_declarations_are_refused(declared: str) -> None:
    error = refusal(ours(declared), now_s=1_700_000_000)
    assert error.message.startswith("x-amz-content-sha256 must be UNSIGNED-PAYLOAD or")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_our_presigned_urls_are_right(path: str, query: str) -> None:
    request = SignedRequest(b"GET", path.encode(), query.encode(), [(b"host", b"127.0.0.1:9700")])
    made = sigv4.presign(
        request,
        credentials=sigv4.SigningCredentials(KEY, SECRET, "to/ken="),
        region="us-east-1",
        service="lambda",
        now_s=1_700_000_000,
        expires_s=600,
    )
    signed = replace(request, query=made)
    verified = check(signed, sigv4.EMPTY_SHA256, now_s=1_700_000_600)
    assert (verified.is_presigned, verified.session_token) == (True, "to/ken=")
    refusal(signed, sigv4.EMPTY_SHA256, now_s=1_700_000_601)
    refusal(replace(signed, path=b"/other"), sigv4.EMPTY_SHA256, now_s=1_700_000_000)


def test_secrets_are_in_no_representation() -> None:
    pending = sigv4.begin(
        ours(SHA),
        secret_of={KEY: SECRET}.get,
        now_s=1_700_000_000,
        services=LAMBDA,
        cache=sigv4.SigningKeys(),
    )
    shown = repr((pending, pending.finish(), sigv4.SigningCredentials(KEY, SECRET, "token")))
    assert SECRET not in shown
    assert "token" not in shown.replace("session_token", "")


def test_signing_keys_are_bounded_and_follow_a_new_secret() -> None:
    keys = sigv4.SigningKeys(capacity=2)
    first = keys.get("one", "20240101", "r", "lambda")
    assert keys.get("two", "20240101", "r", "lambda") != first
    assert keys.get("one", "20240101", "r", "lambda") == first
    for day in range(10):
        day_key = keys.get("one", f"2024010{day}", "r", "lambda")
        assert day_key == signing_key("one", f"2024010{day}", "r", "lambda")
    assert len(keys._keys) == 2


PARTS = st.sampled_from(
    [
        b"AWS4-HMAC-SHA256 ",
        b"Credential=",
        f"Credential={KEY}/20231114/r/lambda/aws4_request".encode(),
        b"SignedHeaders=host;x-amz-date",
        b"Signature=",
        b", ",
        b"=",
        b"&",
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256&",
        b"X-Amz-Date=20231114T221320Z&",
        b"X-Amz-Expires=9&",
        b"X-Amz-Signature=%",
        b"X-Amz-",
        b"%",
        b"%ff",
        b"/",
    ]
)
NOISE = st.lists(PARTS | st.binary(max_size=8), max_size=12).map(b"".join)


@UNTIMED
@given(
    path=NOISE,
    query=NOISE,
    authorization=st.none() | NOISE,
    date=st.just(b"20231114T221320Z") | NOISE,
    other=st.lists(st.tuples(st.sampled_from([b"host", b"date", b"x-amz-content-sha256"]), NOISE)),
)
def test_no_request_crashes_verification(
    path: bytes,
    query: bytes,
    authorization: bytes | None,
    date: bytes,
    other: list[tuple[bytes, bytes]],
) -> None:
    headers = [(b"x-amz-date", date), *other]
    if authorization is not None:
        headers.append((b"authorization", authorization))
    with pytest.raises(ApiError):
        check(SignedRequest(b"GET", path, query, headers), SHA, now_s=1_700_000_000)


@pytest.mark.parametrize(
    ("authorization", "query", "service"),
    [
        (b"AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/logs/aws4_request, S=x", b"", "logs"),
        (b"", b"a=b&X-Amz-Credential=AK%2F20260101%2Fus-east-1%2Fs3%2Faws4_request", "s3"),
        (b"", b"X-Amz-Credential=AK/20260101/us-east-1/sts/aws4_request", "sts"),
        (b"Bearer abc", b"", None),
        (b"", b"", None),
        (b"AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1", b"", None),
        (b"AWS4-HMAC-SHA256 " + b"x" * 9000 + b"Credential=AK/20260101/r/logs/", b"", None),
    ],
)
def test_the_service_a_signature_claims(
    authorization: bytes, query: bytes, service: str | None
) -> None:
    assert sigv4.claimed_service(authorization, query) == service
