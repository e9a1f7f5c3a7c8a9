"""Replays recorded calls against our server and compares with what AWS answered.

The recordings are not part of the repository. Where they are not found the tests are skipped; the
facts that must hold for good are stated in ``test_api_facts.py``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError

from pilotlight.control.api import OPERATIONS
from pilotlight.testing.control_plane import ControlPlane, serving

pytestmark = pytest.mark.timeout(60)

RECORDINGS = Path(
    os.environ.get("COMPAT_RECORDINGS", Path(__file__).parents[3] / "shared" / "compat")
)
RECORDED_ACCOUNT = "111111111111"
PLACEHOLDER = re.compile(r"<[a-z_]+[a-z0-9_-]*(?::\d+)?>")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SMALL = 1_000_000
"""Packages below this are made anew, with different content for each size."""
VOLATILE = {"date", "code-sha256", "lambda-url"}
"""Values that were replaced by a word."""
POLLED = {"GetFunction", "GetFunctionConfiguration"}
ELSEWHERE: dict[str, str] = {}
"""Cases whose operations exist but which need something that does not."""


def recorded_cases() -> list[dict[str, Any]]:
    path = RECORDINGS / "api.jsonl"
    if not path.exists():
        return []
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    return [case for case in cases if is_ours(case)]


def is_ours(case: dict[str, Any]) -> bool:
    transcript = case.get("transcript") or []
    calls = {step["call"] for step in transcript if "call" in step}
    is_complete = any("recorded_as" in step for step in transcript)
    return is_complete and calls <= OPERATIONS.keys() and case["case"] not in ELSEWHERE


CASES = recorded_cases()
EQUAL = Counter[str]()
"""Recorded answers that ours were equal to, by the operation that was asked."""


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[None]:
    """Write how many answers were equal, by operation, where COMPAT_COUNTS names a file."""
    yield
    target = os.environ.get("COMPAT_COUNTS")
    if target:
        Path(target).write_text(json.dumps(dict(sorted(EQUAL.items()))))


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


def package(seed: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), f"# {seed}\n")
    return buffer.getvalue()


def concrete(value: Any) -> Any:
    """Give a recorded parameter the size or the content its placeholder stands for."""
    if isinstance(value, dict):
        return {key: concrete(item) for key, item in value.items()}
    if isinstance(value, list):
        return [concrete(item) for item in value]
    if isinstance(value, str):
        if match := re.fullmatch(r"<(\d+) bytes>", value):
            return package(value) if int(match[1]) < SMALL else bytes(int(match[1]))
        if match := re.fullmatch(r"<string of (\d+) characters>", value):
            return "x" * int(match[1])
    return value


class Matcher:
    """Compares answers with recorded ones; equal placeholders must mean equal values."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}
        self.faults: list[str] = []

    def differences(self, expected: Any, actual: Any) -> list[str]:
        """What differs; bindings are kept only when nothing does."""
        before, self.faults = dict(self.bound), []
        self._compare(expected, actual, "")
        if self.faults:
            self.bound = before
        return self.faults

    def _compare(self, expected: Any, actual: Any, at: str) -> None:
        if (
            isinstance(expected, dict)
            and isinstance(actual, str)
            and at in {".Policy", ".Statement"}
        ):
            actual = json.loads(actual)
        if isinstance(expected, dict) and isinstance(actual, dict):
            self._members(expected, actual, at)
        elif isinstance(expected, list) and isinstance(actual, list):
            if len(expected) != len(actual):
                self.faults.append(f"{at}: {len(actual)} items, expected {len(expected)}")
            for number, pair in enumerate(zip(expected, actual, strict=False)):
                self._compare(*pair, f"{at}[{number}]")
        elif isinstance(expected, str):
            self._text(expected, actual, at)
        elif expected != actual:
            self.faults.append(f"{at}: {actual!r}, expected {expected!r}")

    def _members(self, expected: dict[str, Any], actual: dict[str, Any], at: str) -> None:
        for key in sorted(expected.keys() | actual.keys()):
            if key not in expected:
                self.faults.append(f"{at}.{key}: not expected: {actual[key]!r}")
            elif key not in actual:
                self.faults.append(f"{at}.{key}: missing, expected {expected[key]!r}")
            else:
                self._compare(expected[key], actual[key], f"{at}.{key}")

    def _text(self, expected: str, actual: Any, at: str) -> None:
        if expected in VOLATILE or expected == actual:
            return
        pattern, names = "", []
        rest = expected.replace(RECORDED_ACCOUNT, "000000000000")
        while match := PLACEHOLDER.search(rest):
            pattern += re.escape(rest[: match.start()]) + "(.+)"
            names.append(match[0])
            rest = rest[match.end() :]
        found = re.fullmatch(pattern + re.escape(rest), str(actual))
        if found is None:
            self.faults.append(f"{at}: {str(actual)[:300]!r}, expected {expected[:300]!r}")
            return
        for name, value in zip(names, found.groups(), strict=True):
            if ":" in name and self.bound.setdefault(name, value) != value:
                self.faults.append(f"{at}: {name} was {self.bound[name]!r}, now {value!r}")


class Replay:
    """One case against one server.

    A marker of a recorded page means the service's own; the page's call gets the marker of the
    answer before it, and the pages together are an answer too.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self.client = boto3.client(
            "lambda",
            **plane.client_settings(),
            config=Config(retries={"max_attempts": 0, "mode": "standard"}),
        )
        self.objects = boto3.client(
            "s3", **plane.client_settings(), config=Config(s3={"addressing_style": "path"})
        )
        self.staged = 0
        self.matcher = Matcher()
        self.made: list[str] = []
        self.uuids: dict[str, str] = {}
        self.pages: list[dict[str, Any]] = []
        self.polled: dict[str, Any] | None = None

    def step(self, name: str, params: dict[str, Any]) -> list[Any]:
        """Make one call of a transcript; return its answer, after it that of all pages."""
        if name in POLLED:
            self.polled = params
        elif self.polled is not None:
            self.settle(self.polled)
            self.polled = None
        if not str(params.get("Marker", "")).startswith("arn:"):
            self.pages = []
        elif self.pages:
            params = params | {"Marker": self.pages[-1].get("NextMarker")}
        self.stage(params)
        answer = self.call(name, self.with_own_ids(params))
        if isinstance(answer, dict) and name.startswith("Create") and "UUID" in answer:
            self.made.append(answer["UUID"])
        if not isinstance(answer, dict) or "MaxItems" not in params:
            return [answer]
        self.pages.append(answer)
        return [answer, joined(self.pages)]

    def stage(self, params: dict[str, Any]) -> None:
        """Upload what a recorded call finds in a bucket; recordings leave the uploads out."""
        source = params.get("Code", params)
        bucket, key = source.get("S3Bucket"), source.get("S3Key", "")
        if not bucket or "non-existent" in bucket:
            return
        self.staged += 1
        with contextlib.suppress(self.objects.exceptions.BucketAlreadyOwnedByYou):
            self.objects.create_bucket(Bucket=bucket)
        if "existent" not in key:
            body = package(f"staged {self.staged}")
            self.objects.put_object(Bucket=bucket, Key=key, Body=body)

    def with_own_ids(self, params: dict[str, Any]) -> dict[str, Any]:
        """Recorded ids as those that were made here: a new one is of what was made last."""

        def own(match: re.Match[str]) -> str:
            if match[0] not in self.uuids and self.made:
                self.uuids[match[0]] = self.made[-1]
            return self.uuids.get(match[0], match[0])

        return {
            key: UUID.sub(own, value)
            if key in {"UUID", "Resource"} and isinstance(value, str)
            else value
            for key, value in params.items()
        }

    def call(self, name: str, params: dict[str, Any]) -> Any:
        method = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        arguments = concrete(params)
        if arguments.get("RevisionId") not in (None, "wrong"):
            arguments["RevisionId"] = self._current_revision(arguments)
        try:
            answer = getattr(self.client, method)(**arguments)
        except ClientError as error:
            answer = error.response
        except ParamValidationError as error:
            return str(error)
        meta = answer["ResponseMetadata"]
        answer["ResponseMetadata"] = {"HTTPHeaders": {}, "HTTPStatusCode": meta["HTTPStatusCode"]}
        return json.loads(json.dumps(answer, default=str))

    def _current_revision(self, arguments: dict[str, Any]) -> str:
        """What the recording's client had from the call before: a policy's, or its owner's."""
        named = {key: arguments[key] for key in ("FunctionName", "Qualifier") if key in arguments}
        try:
            return str(self.client.get_policy(**named)["RevisionId"])
        except self.client.exceptions.ResourceNotFoundException:
            pass
        name, _, derived = arguments["FunctionName"].rpartition(":")
        qualifier = arguments.get("Qualifier", derived if name else "$LATEST")
        try:
            alias = self.client.get_alias(FunctionName=name or derived, Name=qualifier)
        except self.client.exceptions.ResourceNotFoundException:
            return str(self.client.get_function_configuration(**named)["RevisionId"])
        return str(alias["RevisionId"])

    def settle(self, params: dict[str, Any]) -> Any:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            answer = self.call("GetFunction", params)
            if not is_busy(answer):
                return answer
            time.sleep(0.05)
        raise AssertionError("the function never settled")


def joined(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """All items of a paged list, as a client's paginator returns them."""
    items: dict[str, Any] = {}
    for page in pages:
        for key, value in page.items():
            if isinstance(value, list):
                items[key] = items.get(key, []) + value
    return items


def is_busy(answer: Any) -> bool:
    shown = answer.get("Configuration", answer) if isinstance(answer, dict) else {}
    return shown.get("State") == "Pending" or shown.get("LastUpdateStatus") == "InProgress"


def expected_of(recorded: Any) -> Any:
    """The answer itself, where the recording wraps it."""
    if isinstance(recorded, dict) and "CreateFunctionResponse" in recorded:
        return recorded["CreateFunctionResponse"]
    return recorded


def shown_of(recorded: Any, actual: Any) -> Any:
    """Reduce an answer to what the recording kept of it."""
    if recorded_keys_only(recorded):
        return {
            key: sorted(value) if isinstance(value, dict) and key != "ResponseMetadata" else value
            for key, value in actual.items()
        }
    return actual


def recorded_keys_only(recorded: Any) -> bool:
    return isinstance(recorded, dict) and isinstance(recorded.get("AccountLimit"), list)


@pytest.mark.skipif(not CASES, reason=f"no recordings at {RECORDINGS}")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_answers_equal_the_recorded_ones(plane: ControlPlane, case: dict[str, Any]) -> None:
    replay = Replay(plane)
    failures: list[str] = []
    since_last: list[Any] = []
    steps = case["transcript"]
    for number, step in enumerate(steps):
        if "call" in step:
            follows = steps[number + 1] if number + 1 < len(steps) else {}
            if step["call"] in POLLED and "recorded_as" not in follows:
                since_last.append(replay.settle(step["params"]))
                continue
            since_last.extend(replay.step(step["call"], step["params"]))
            continue
        key = step["recorded_as"]
        expected = expected_of(case["answers"].get(key))
        if expected is None or isinstance(expected, bool) or expected == "<aws_internal_failure>":
            since_last = []
            continue
        faults: list[str] = []
        for answer in reversed(since_last):
            faults = replay.matcher.differences(expected, shown_of(expected, answer))
            if not faults:
                break
        asked = steps[number - 1]
        if faults and asked.get("call") in POLLED and not is_busy(expected):
            # The recording's client waited here with the call that made the answer before.
            settled = replay.settle(asked["params"])
            faults = replay.matcher.differences(expected, shown_of(expected, settled))
        failures.extend(f"{key}: {fault}" for fault in faults)
        if not faults and "call" in asked:
            EQUAL[asked["call"]] += 1
        if not faults or "Error" not in str(expected):
            since_last = since_last[-1:] if len(since_last) > 1 else []
    assert not failures, "\n".join(failures)
