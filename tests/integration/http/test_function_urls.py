"""Function URLs over real sockets. Source: the AWS pages on URL invocation and authorization."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilotlight.model.errors import Throttled

pytestmark = pytest.mark.anyio

FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see:"
    " https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


def request(
    path: str, *lines: str, method: str = "GET", host: str = "localhost", body: bytes = b""
) -> Any:
    length = [f"Content-Length: {len(body)}"] if body else []
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *length, *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def signed_request(kit: Any, path: str, *, secret: str = "", region: str = "us-east-1") -> Any:
    """A POST with a signature in its headers, as an SDK signs it."""
    one = AWSRequest("POST", f"http://localhost{path}", data=b"{}", headers={"Host": "localhost"})
    SigV4Auth(Credentials(kit.key, secret or kit.secret), "lambda", region).add_auth(one)
    lines = [f"{name}: {value}" for name, value in one.headers.items() if name != "Host"]
    return request(path, *lines, method="POST", body=b"{}")


def event(urls: Any) -> Any:
    return json.loads(urls.invoker.seen[-1].payload)


async def test_a_repeated_head_gives_each_request_its_own_event(urls: Any, kit: Any) -> None:
    """Whatever is kept from the request before, a function sees no difference."""
    client = await urls.connect()
    path = f"/url/{kit.url_id}/p?q=1"
    heads = [("X-A: 1",), ("X-A: 1",), ("X-A: 1",), ("X-A: 2",), ("X-A: 2",), ("X-A: 1", "X-B: 3")]
    for number, lines in enumerate(heads):
        await client.send(request(path, *lines, method="POST", body=b'{"n":%d}' % number))
        assert (await client.response())[0] == 200
    client.close()
    events = [json.loads(seen.payload) for seen in urls.invoker.seen]
    assert [json.loads(base64.b64decode(e["body"]))["n"] for e in events] == [0, 1, 2, 3, 4, 5]
    assert [e["headers"]["x-a"] for e in events] == ["1", "1", "1", "2", "2", "1"]
    assert ["x-b" in e["headers"] for e in events] == [False] * 5 + [True]
    ids = [seen.request_id for seen in urls.invoker.seen]
    assert [e["requestContext"]["requestId"] for e in events] == ids
    assert len(set(ids)) == len(ids)
    traces = [e["headers"]["x-amzn-trace-id"] for e in events]
    assert traces == [seen.trace_id for seen in urls.invoker.seen]
    assert len(set(traces)) == len(traces)
    shapes = [set(e) | set(e["requestContext"]) | set(e["headers"]) for e in events[:5]]
    assert all(shape == shapes[0] for shape in shapes)


async def test_a_repeated_trace_header_is_repeated(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    for _ in range(3):
        await client.send(request(f"/url/{kit.url_id}/", "X-Amzn-Trace-Id: Root=1-abc;Sampled=1"))
        await client.response()
    client.close()
    assert {seen.trace_id for seen in urls.invoker.seen} == {"Root=1-abc;Sampled=1"}


async def test_event_has_every_member_of_format_2_0(urls: Any, kit: Any) -> None:
    await urls.ask(
        request(
            f"/url/{kit.url_id}/my/path?a=1&a=2&b=x%20y",
            "Cookie: c1=1; c2=2",
            "User-Agent: agent",
            "X-Many: 1",
            "X-Many: 2",
            "X-Forwarded-For: 9.9.9.9",
            "Content-Type: text/plain; charset=utf-8",
            method="POST",
            body='Hellö "you"'.encode(),
        )
    )
    got = event(urls)
    request_id = urls.invoker.seen[0].request_id
    context = got["requestContext"]
    assert context.pop("timeEpoch") > 0
    assert context.pop("time").endswith(" +0000")
    trace = got["headers"].pop("x-amzn-trace-id")
    assert trace.startswith("Root=1-")
    assert got == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path",
        "rawQueryString": "a=1&a=2&b=x%20y",
        "cookies": ["c1=1", "c2=2"],
        "headers": {
            "host": "localhost",
            "content-length": "12",
            "user-agent": "agent",
            "x-many": "1,2",
            "content-type": "text/plain; charset=utf-8",
            "x-forwarded-for": "9.9.9.9, 127.0.0.1",
            "x-forwarded-port": "0",
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"a": "1,2", "b": "x y"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": kit.url_id,
            "domainName": "localhost",
            "domainPrefix": kit.url_id,
            "http": {
                "method": "POST",
                "path": "/my/path",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "agent",
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
        },
        "body": 'Hellö "you"',
        "isBase64Encoded": False,
    }


async def test_url_by_host(urls: Any, kit: Any) -> None:
    host = f"{kit.url_id}.lambda-url.eu-west-1.localhost:9701"
    status, _, _ = await urls.ask(request("/x?y=1", host=host))
    assert status == 200
    got = event(urls)
    assert got["rawPath"] == "/x"
    assert got["requestContext"]["domainName"] == f"{kit.url_id}.lambda-url.eu-west-1.localhost"
    assert urls.invoker.seen[0].invoked_arn.endswith(":us-east-1:000000000000:function:echo")


async def test_root_path_form_without_a_slash(urls: Any, kit: Any) -> None:
    assert (await urls.ask(request(f"/url/{kit.url_id}")))[0] == 200
    assert event(urls)["rawPath"] == "/"
    assert "body" not in event(urls)


async def test_binary_body_is_base64(urls: Any, kit: Any) -> None:
    await urls.ask(request(f"/url/{kit.url_id}/", method="POST", body=b"\xff\x00"))
    assert (event(urls)["body"], event(urls)["isBase64Encoded"]) == ("/wA=", True)


@pytest.mark.parametrize(
    ("payload", "status", "body"),
    [
        (b'"hello"', 200, b"hello"),
        (b"3", 200, b"3"),
        (b"3.1", 200, b"3.1"),
        (b"true", 200, b"true"),
        (b"null", 200, b"null"),
        (b'["hello", 3, true]', 200, b'["hello",3,true]'),
        (b'{"hello": "world"}', 200, b'{"hello":"world"}'),
        (b'{"statusCode": 201, "body": "body123"}', 201, b"body123"),
        (b'{"statusCode": 200, "body": "{\\"hello\\": \\"world\\"}"}', 200, b'{"hello": "world"}'),
        (b'{"statusCode": "418"}', 418, b""),
        (b'{"statusCode": 200, "body": "/wA=", "isBase64Encoded": true}', 200, b"\xff\x00"),
        (b'{"statusCode": 42}', 502, b"Internal Server Error"),
        (b'{"statusCode": 200, "body": {"a": 1}}', 502, b"Internal Server Error"),
        (b"not json", 502, b"Internal Server Error"),
    ],
)
async def test_responses(urls: Any, kit: Any, payload: Any, status: Any, body: Any) -> None:
    urls.invoker.behave = lambda _: kit.result(payload)
    got_status, fields, got_body = await urls.ask(request(f"/url/{kit.url_id}/"))
    assert (got_status, got_body) == (status, body)
    assert dict(fields)["content-type"] == "application/json"
    assert dict(fields)["x-amzn-requestid"] == urls.invoker.seen[0].request_id


async def test_headers_and_cookies_of_a_response(urls: Any, kit: Any) -> None:
    answer = {
        "statusCode": 302,
        "headers": {"Location": "/x", "X-Number": 7, "Content-Length": "999", "Connection": "x"},
        "cookies": ["a=1; Secure", "b=2"],
    }
    urls.invoker.behave = lambda _: kit.result(json.dumps(answer).encode())
    status, fields, body = await urls.ask(request(f"/url/{kit.url_id}/"))
    assert (status, body) == (302, b"")
    assert [v for n, v in fields if n == "set-cookie"] == ["a=1; Secure", "b=2"]
    assert (dict(fields)["location"], dict(fields)["x-number"]) == ("/x", "7")
    assert [v for n, v in fields if n == "content-length"] == ["0"]
    assert "connection" not in dict(fields)


async def test_no_content_has_no_length(urls: Any, kit: Any) -> None:
    urls.invoker.behave = lambda _: kit.result(b'{"statusCode": 204, "body": "x"}')
    status, fields, _ = await urls.ask(request(f"/url/{kit.url_id}/"))
    assert status == 204
    assert "content-length" not in dict(fields)


async def test_function_error_is_502(urls: Any, kit: Any) -> None:
    urls.invoker.behave = lambda _: kit.result(b'{"errorMessage": "x"}', function_error="Unhandled")
    status, _, body = await urls.ask(request(f"/url/{kit.url_id}/"))
    assert (status, body) == (502, b"Internal Server Error")


async def test_throttle_is_429(urls: Any, kit: Any) -> None:
    urls.invoker.behave = lambda _: Throttled("ConcurrentInvocationLimitExceeded")
    status, fields, body = await urls.ask(request(f"/url/{kit.url_id}/"))
    assert (status, json.loads(body)) == (429, {"Message": "Rate Exceeded."})
    assert "retry-after" in dict(fields)


async def test_event_above_six_mebibytes_is_413(urls: Any, kit: Any) -> None:
    body = b"\xff" * 5_000_000  # 6.7 MB in Base64
    status, _, _ = await urls.ask(request(f"/url/{kit.url_id}/", method="POST", body=body))
    assert status == 413
    assert urls.invoker.seen == []


async def test_who_may_call(urls: Any, kit: Any) -> Any:
    async def ask() -> Any:
        status, fields, body = await urls.ask(request(f"/url/{kit.url_id}/"))
        return status, dict(fields).get("x-amzn-errortype"), json.loads(body)["Message"]

    url = urls.view.urls[kit.url_id]
    denied = (403, "AccessDeniedException", FORBIDDEN)
    urls.view.urls[kit.url_id] = dataclasses.replace(url, is_public=False)
    assert await ask() == denied
    urls.view.urls[kit.url_id] = dataclasses.replace(url, qualifier="gone")
    assert await ask() == denied
    urls.view.urls[kit.url_id] = dataclasses.replace(url, auth_type="AWS_IAM")
    assert await ask() == denied
    del urls.view.urls[kit.url_id]
    assert await ask() == (403, "AccessDeniedException", None)
    assert urls.invoker.seen == []


async def test_signed_call_of_a_url_with_iam(urls: Any, kit: Any) -> Any:
    url = urls.view.urls[kit.url_id]
    urls.view.urls[kit.url_id] = dataclasses.replace(url, auth_type="AWS_IAM", is_public=False)

    def signed(secret: str) -> Any:
        return signed_request(kit, f"/url/{kit.url_id}/x?b=2&a=1", secret=secret)

    assert (await urls.ask(signed(kit.secret)))[0] == 200
    context = event(urls)["requestContext"]
    assert context["accountId"] == kit.account
    assert context["authorizer"]["iam"]["accessKey"] == kit.key
    assert (await urls.ask(signed("wrong")))[0] == 403
    assert len(urls.invoker.seen) == 1


async def test_a_signature_for_another_region_is_refused(urls: Any, kit: Any) -> None:
    url = urls.view.urls[kit.url_id]
    urls.view.urls[kit.url_id] = dataclasses.replace(url, auth_type="AWS_IAM")
    one = signed_request(kit, f"/url/{kit.url_id}/", region="eu-west-1")
    status, fields, body = await urls.ask(one)
    assert (status, dict(fields)["x-amzn-errortype"]) == (403, "InvalidSignatureException")
    assert json.loads(body) == {"Message": "Credential should be scoped to a valid region."}
    assert urls.invoker.seen == []


async def test_a_presigned_url_admits_without_headers(urls: Any, kit: Any) -> None:
    url = urls.view.urls[kit.url_id]
    urls.view.urls[kit.url_id] = dataclasses.replace(url, auth_type="AWS_IAM")
    one = AWSRequest("GET", f"http://localhost/url/{kit.url_id}/p", headers={"Host": "localhost"})
    SigV4QueryAuth(Credentials(kit.key, kit.secret), "lambda", "us-east-1").add_auth(one)
    path = one.url.removeprefix("http://localhost")
    assert (await urls.ask(request(path)))[0] == 200
    assert event(urls)["requestContext"]["authorizer"]["iam"]["accessKey"] == kit.key
    assert (await urls.ask(request(path.replace("/p?", "/q?"))))[0] == 403


async def test_another_account_needs_a_statement(urls: Any, kit: Any) -> None:
    """Its function lives in account 222222222222; the caller is root of 000000000000."""
    url = dataclasses.replace(
        urls.view.urls[kit.url_id], auth_type="AWS_IAM", account="222222222222", is_public=True
    )
    urls.view.accounts.add("222222222222")
    for callers, status in [
        ((), 403),
        (("arn:aws:iam::333333333333:root",), 403),
        (("arn:aws:iam::000000000000:user/other",), 403),
        (("arn:aws:iam::000000000000:root",), 200),
        (("*",), 200),
    ]:
        urls.view.urls[kit.url_id] = dataclasses.replace(url, callers=callers)
        answer = await urls.ask(signed_request(kit, f"/url/{kit.url_id}/"))
        assert answer[0] == status, callers
    context = event(urls)["requestContext"]
    assert context["accountId"] == "222222222222"
    assert context["authorizer"]["iam"]["accountId"] == kit.account


async def test_a_preflight_needs_no_signature(urls: Any, kit: Any) -> None:
    url = urls.view.urls[kit.url_id]
    cors = {"AllowOrigins": ["*"], "AllowMethods": ["*"], "AllowHeaders": ["*"],
            "AllowCredentials": True}  # fmt: skip
    urls.view.urls[kit.url_id] = dataclasses.replace(url, auth_type="AWS_IAM", cors=cors)
    status, fields, body = await urls.ask(
        request(
            f"/url/{kit.url_id}/",
            "Origin: https://a.example",
            "Access-Control-Request-Method: PATCH",
            "Access-Control-Request-Headers: authorization, x-amz-date",
            method="OPTIONS",
        )
    )
    got = dict(fields)
    assert (status, body) == (200, b"")
    assert got["access-control-allow-origin"] == "https://a.example"
    assert got["access-control-allow-methods"] == "PATCH"
    assert got["access-control-allow-headers"] == "authorization, x-amz-date"
    assert got["vary"] == "Origin"


async def test_the_functions_cors_headers_give_way(urls: Any, kit: Any) -> None:
    url = urls.view.urls[kit.url_id]
    urls.view.urls[kit.url_id] = dataclasses.replace(url, cors={"AllowOrigins": ["https://a"]})
    own = {"Access-Control-Allow-Origin": "*", "access-control-allow-methods": "PUT", "x-a": "1"}
    said = json.dumps({"statusCode": 200, "headers": own}).encode()
    urls.invoker.behave = lambda _: kit.result(said)
    _, fields, _ = await urls.ask(request(f"/url/{kit.url_id}/", "Origin: https://a"))
    cross = [field for field in fields if field[0].startswith("access-control-")]
    assert cross == [("access-control-allow-origin", "https://a")]
    assert ("x-a", "1") in fields


async def test_cors(urls: Any, kit: Any) -> None:
    url = urls.view.urls[kit.url_id]
    cors = {
        "AllowOrigins": ["https://a.example"],
        "AllowMethods": ["GET", "PUT"],
        "AllowHeaders": ["x-one"],
        "ExposeHeaders": ["date"],
        "AllowCredentials": True,
        "MaxAge": 60,
    }
    urls.view.urls[kit.url_id] = dataclasses.replace(url, cors=cors)
    preflight = ("Origin: https://a.example", "Access-Control-Request-Method: PUT")
    status, fields, _ = await urls.ask(request(f"/url/{kit.url_id}/", *preflight, method="OPTIONS"))
    assert status == 200
    assert urls.invoker.seen == []
    got = dict(fields)
    assert got["access-control-allow-origin"] == "https://a.example"
    assert got["access-control-allow-methods"] == "GET,PUT"
    assert got["access-control-allow-headers"] == "x-one"
    assert got["access-control-allow-credentials"] == "true"
    assert got["access-control-max-age"] == "60"
    _, fields, _ = await urls.ask(request(f"/url/{kit.url_id}/", "Origin: https://a.example"))
    assert dict(fields)["access-control-expose-headers"] == "date"
    _, fields, _ = await urls.ask(request(f"/url/{kit.url_id}/", "Origin: https://b.example"))
    assert not any(name.startswith("access-control-") for name, _ in fields)


async def test_options_without_cors_goes_to_the_function(urls: Any, kit: Any) -> None:
    await urls.ask(request(f"/url/{kit.url_id}/", method="OPTIONS"))
    assert event(urls)["requestContext"]["http"]["method"] == "OPTIONS"


async def test_any_other_address_says_what_is_served_here(urls: Any) -> None:
    status, _, body = await urls.ask(request("/"))
    assert status == 404
    assert "/url/<url-id>/" in json.loads(body)["Message"]
