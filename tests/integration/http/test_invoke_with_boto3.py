"""The invoke path as the SDK sees it. Texts are the service's, as AWS documents or answers them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.control.gateway import CallerRates
from pilotlight.kernel.system import SystemClock
from pilotlight.model.errors import SandboxError, StorageFull, Throttled
from pilotlight.model.rates import Rate

pytestmark = pytest.mark.anyio


class Sdk:
    """boto3 in a thread, against one listener."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self._client = boto3.client(
            "lambda",
            endpoint_url=url,
            region_name="eu-west-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )

    async def invoke(self, name: str = "echo", **options: Any) -> Any:
        answer = await asyncio.to_thread(self._client.invoke, FunctionName=name, **options)
        answer["Payload"] = await asyncio.to_thread(answer["Payload"].read)
        return answer

    async def error(self, name: str = "echo", **options: Any) -> Any:
        with pytest.raises(ClientError) as caught:
            await self.invoke(name, **options)
        return caught.value.response

    async def invoke_async(self, name: str, arguments: bytes) -> Any:
        return await asyncio.to_thread(
            self._client.invoke_async, FunctionName=name, InvokeArgs=arguments
        )

    def close(self) -> None:
        self._client.close()


@pytest.fixture
async def sdk(api: Any, kit: Any) -> Any:
    client = Sdk(api.server.url, kit.key, kit.secret)
    yield client
    client.close()


async def test_payload_goes_there_and_back(sdk: Any, api: Any) -> None:
    answer = await sdk.invoke(Payload=b'{"a": [1, "\xc3\xa9"]}')
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert answer["Payload"] == b'{"a": [1, "\xc3\xa9"]}'
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-remapped-content-length"] == "0"
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    seen = api.invoker.seen[0]
    assert seen.invoked_arn == "arn:aws:lambda:eu-west-1:000000000000:function:echo"
    assert seen.request_id == answer["ResponseMetadata"]["RequestId"]


async def test_no_payload_is_an_empty_event(sdk: Any, api: Any) -> None:
    await sdk.invoke()
    assert api.invoker.seen[0].payload == b"{}"


async def test_an_event_is_answered_when_it_is_accepted(sdk: Any, api: Any) -> None:
    answer = await sdk.invoke("echo:live", InvocationType="Event", Payload=b'{"a": 1}')
    assert (answer["StatusCode"], answer["Payload"]) == (202, b"")
    assert "ExecutedVersion" not in answer
    (event,) = api.events.accepted
    assert event.request_id == answer["ResponseMetadata"]["RequestId"]
    assert (event.function, event.qualifier, event.payload) == ("echo", "live", b'{"a": 1}')
    assert event.arn == "arn:aws:lambda:eu-west-1:000000000000:function:echo:live"
    assert api.invoker.seen == []


async def test_an_event_that_is_not_accepted_is_an_error(sdk: Any, api: Any) -> None:
    api.events.refusal = StorageFull("The disk is nearly full.")
    answer = await sdk.error(InvocationType="Event")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert answer["Error"]["Code"] == "ServiceException"


@pytest.mark.parametrize(
    ("options", "status", "code", "message"),
    [
        (
            {"Payload": b"nope"},
            400,
            "InvalidRequestContentException",
            "Could not parse request body into json",
        ),
        (
            {"Payload": b'"' + b"x" * 1048575 + b'"'},
            413,
            "RequestTooLargeException",
            "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)",
        ),
    ],
)
async def test_events_that_are_refused(
    sdk: Any, api: Any, options: dict[str, Any], status: int, code: str, message: str
) -> None:
    answer = await sdk.error(InvocationType="Event", **options)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answer["Error"]["Code"] == code
    assert message in answer["Error"]["Message"]
    assert api.events.accepted == []


async def test_invoke_async_is_an_event_too(sdk: Any, api: Any) -> None:
    answer = await sdk.invoke_async("echo", b'{"a": 2}')
    assert answer["Status"] == 202
    (event,) = api.events.accepted
    assert (event.qualifier, event.payload) == (None, b'{"a": 2}')


@pytest.mark.parametrize(
    ("name", "options", "arn"),
    [
        ("echo:live", {}, "echo:live"),
        ("echo", {"Qualifier": "live"}, "echo:live"),
        ("echo", {"Qualifier": "$LATEST"}, "echo:$LATEST"),
        ("000000000000:function:echo:1", {}, "echo:1"),
        ("arn:aws:lambda:eu-west-1:000000000000:function:echo", {"Qualifier": "1"}, "echo:1"),
        ("arn:aws:lambda:eu-west-1:000000000000:function:echo:1", {"Qualifier": "1"}, "echo:1"),
    ],
)
async def test_every_form_of_a_name_reaches_the_function(
    sdk: Any, api: Any, name: Any, options: Any, arn: Any
) -> None:
    await sdk.invoke(name, **options)
    expected = f"arn:aws:lambda:eu-west-1:000000000000:function:{arn}"
    assert api.invoker.seen[0].invoked_arn == expected


async def test_function_error_and_log_tail(sdk: Any, api: Any, kit: Any) -> None:
    api.invoker.behave = lambda inv: kit.result(
        b'{"errorMessage": "x"}',
        function_error="Unhandled",
        log_tail=b"START\n" if inv.wants_log else None,
    )
    answer = await sdk.invoke(LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert base64.b64decode(answer["LogResult"]) == b"START\n"
    assert "LogResult" not in await sdk.invoke(LogType="None")


async def test_client_context_is_decoded(sdk: Any, api: Any) -> None:
    context = base64.b64encode(b'{"custom": {"a": 1}}').decode()
    await sdk.invoke(ClientContext=context)
    assert json.loads(api.invoker.seen[0].client_context) == {"custom": {"a": 1}}


async def test_dry_run_checks_and_runs_nothing(sdk: Any, api: Any) -> None:
    answer = await sdk.invoke(InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert "ExecutedVersion" not in answer
    assert answer["Payload"] == b""
    assert api.invoker.seen == []
    assert (await sdk.error("nothing", InvocationType="DryRun"))["Error"]["Code"] == (
        "ResourceNotFoundException"
    )


@pytest.mark.parametrize(
    ("options", "status", "code", "text"),
    [
        (
            {"InvocationType": "Sometimes"},
            400,
            "ValidationException",
            (
                "1 validation error detected: Value 'Sometimes' at 'invocationType' failed to satisfy"
                " constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"
            ),
        ),
        (
            {"LogType": "Head"},
            400,
            "ValidationException",
            (
                "1 validation error detected: Value 'Head' at 'logType' failed to satisfy"
                " constraint: Member must satisfy enum value set: [None, Tail]"
            ),
        ),
        (
            {"ClientContext": "no!"},
            400,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.",
        ),
        (
            {"ClientContext": base64.b64encode(b'"' + b"x" * 3000 + b'"').decode()},
            400,
            "InvalidRequestContentException",
            "Client context must be no more than 3583 bytes",
        ),
        (
            {"Payload": b"hello"},
            400,
            "InvalidRequestContentException",
            (
                "Could not parse request body into json: Could not parse payload into json:"
                " Unrecognized token 'hello'"
            ),
        ),
        (
            {"name": "nothing"},
            404,
            "ResourceNotFoundException",
            "Function not found: arn:aws:lambda:eu-west-1:000000000000:function:nothing:$LATEST",
        ),
        (
            {"name": "echo", "Qualifier": "7"},
            404,
            "ResourceNotFoundException",
            "Function not found: arn:aws:lambda:eu-west-1:000000000000:function:echo:7",
        ),
        (
            {"name": "echo:1", "Qualifier": "2"},
            400,
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        ),
        (
            {"name": "arn:aws:lambda:us-east-1:000000000000:function:echo"},
            404,
            "ResourceNotFoundException",
            "Functions from 'us-east-1' are not reachable in this region ('eu-west-1')",
        ),
        ({"name": "111111111111:function:echo"}, 403, "AccessDeniedException", ""),
        (
            {"name": "not a name"},
            400,
            "ValidationException",
            "1 validation error detected: Value 'not a name' at 'functionName'",
        ),
        (
            {"name": "pending"},
            409,
            "ResourceConflictException",
            "The function is currently in the following state: Pending",
        ),
    ],
)
async def test_refusals(
    sdk: Any, api: Any, options: Any, status: Any, code: Any, text: Any
) -> None:
    error = await sdk.error(**options)
    assert error["Error"]["Code"] == code
    assert text in error["Error"]["Message"]
    assert error["ResponseMetadata"]["HTTPStatusCode"] == status
    assert error["ResponseMetadata"]["RequestId"]
    assert api.invoker.seen == []


async def test_throttle_names_its_reason(sdk: Any, api: Any) -> None:
    api.invoker.behave = lambda _: Throttled("ConcurrentInvocationLimitExceeded")
    error = await sdk.error()
    assert error["Error"]["Code"] == "TooManyRequestsException"
    assert error["Reason"] == "ConcurrentInvocationLimitExceeded"
    assert error["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"


async def test_platform_error_is_a_5xx_with_a_request_id(sdk: Any, api: Any) -> None:
    api.invoker.behave = lambda _: SandboxError("no sandbox")
    error = await sdk.error()
    assert error["ResponseMetadata"]["HTTPStatusCode"] >= 500
    assert error["ResponseMetadata"]["RequestId"]


async def test_bug_in_the_invoker_is_a_500_without_details(sdk: Any, api: Any) -> None:
    def broken(_invocation: Any) -> None:
        raise ZeroDivisionError("secret detail")

    api.invoker.behave = broken
    error = await sdk.error()
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "secret detail" not in str(error)


async def test_payload_above_six_mebibytes_is_refused(sdk: Any, api: Any) -> None:
    error = await sdk.error(Payload=b'"' + b"x" * 6_291_456 + b'"')
    assert error["Error"]["Code"] == "RequestTooLargeException"
    assert error["Error"]["Message"] == (
        "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    )
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 413
    payload = b'"' + b"x" * 6_291_454 + b'"'
    assert (await sdk.invoke(Payload=payload))["Payload"] == payload
    assert api.listener.budget.held_bytes == 0


async def test_wrong_secret_and_unknown_key_are_refused(api: Any, kit: Any) -> None:
    for key, secret, code in (
        (kit.key, "wrong", "InvalidSignatureException"),
        ("AKIAUNKNOWN", kit.secret, "UnrecognizedClientException"),
    ):
        sdk = Sdk(api.server.url, key, secret)
        error = await sdk.error(Payload=b"{}")
        assert error["Error"]["Code"] == code
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
        sdk.close()
    assert api.invoker.seen == []


async def test_too_quick_invocations_are_refused_with_the_services_reason(kit: Any) -> None:
    slow = Rate(1 / 3600, 1)
    rates = CallerRates(account=slow, key=slow, clock=SystemClock())
    async with kit.running("api", rates=rates) as api:
        client = Sdk(api.server.url, kit.key, kit.secret)
        await client.invoke()
        answer = await client.error()
        client.close()
    assert (answer["Error"]["Code"], answer["Reason"]) == (
        "TooManyRequestsException",
        "CallerRateLimitExceeded",
    )
    assert 3590 <= int(answer["retryAfterSeconds"]) <= 3600
    assert len(api.invoker.seen) == 1
