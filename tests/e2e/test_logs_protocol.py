"""CloudWatch Logs with boto3 and the aws CLI, over what real functions wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from pilotlight.testing.client import invoke
from pilotlight.testing.platform import Platform

pytestmark = [pytest.mark.timeout(180)]
Deploy = Callable[..., str]

SAY = "def handler(event, context):\n    print(event)\n    return context.log_stream_name\n"


@pytest.fixture(scope="module")
def logs(platform: Platform) -> Any:
    return boto3.client("logs", **platform.credentials())


def messages(logs: Any, group: str, **more: Any) -> list[str]:
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, **more)
    return [event["message"].rstrip("\n") for page in pages for event in page["events"]]


def test_what_a_function_wrote_is_found(api: Any, logs: Any, deploy: Deploy) -> None:
    name = deploy(SAY)
    group, begun_ms = f"/aws/lambda/{name}", int(time.time() * 1000) - 1000
    stream, _ = invoke(api, name, "first ERROR")
    for number in range(5):
        invoke(api, name, f"line {number}")
    assert messages(logs, group, filterPattern="ERROR") == ["first ERROR"]
    everything = messages(logs, group, startTime=begun_ms)
    assert [text for text in everything if text.startswith("line")] == [
        f"line {number}" for number in range(5)
    ]
    assert sum(text.startswith("REPORT RequestId") for text in everything) == 6
    assert messages(logs, group, PaginationConfig={"PageSize": 2}) == everything
    assert messages(logs, group, endTime=begun_ms) == []
    assert messages(logs, group, logStreamNames=["none"]) == []
    (shown,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert shown["logStreamName"] == stream
    assert begun_ms < shown["firstEventTimestamp"] <= shown["lastEventTimestamp"]
    groups = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert [known["logGroupName"] for known in groups] == [group]


def test_a_stream_is_read_in_both_directions(api: Any, logs: Any, deploy: Deploy) -> None:
    name = deploy(SAY)
    named = {"logGroupName": f"/aws/lambda/{name}", "logStreamName": invoke(api, name, "0")[0]}
    for number in range(1, 6):
        invoke(api, name, str(number))
    whole = logs.get_log_events(**named, startFromHead=True)
    texts = [event["message"] for event in whole["events"]]
    seen: list[str] = []
    page = logs.get_log_events(**named, startFromHead=True, limit=4)
    while page["events"]:
        seen += [event["message"] for event in page["events"]]
        page = logs.get_log_events(**named, limit=4, nextToken=page["nextForwardToken"])
    assert seen == texts
    backward: list[str] = []
    page = logs.get_log_events(**named, limit=4)
    while page["events"]:
        backward = [event["message"] for event in page["events"]] + backward
        page = logs.get_log_events(**named, limit=4, nextToken=page["nextBackwardToken"])
    assert backward == texts
    with pytest.raises(ClientError, match="log stream does not exist"):
        logs.get_log_events(logGroupName=named["logGroupName"], logStreamName="none")


def test_groups_are_made_kept_and_deleted(api: Any, logs: Any, deploy: Deploy) -> None:
    name = deploy(SAY)
    group = f"/aws/lambda/{name}"
    logs.create_log_group(logGroupName=group, tags={"team": "a"})
    with pytest.raises(ClientError) as refused:
        logs.create_log_group(logGroupName=group)
    assert refused.value.response["Error"]["Code"] == "ResourceAlreadyExistsException"
    invoke(api, name, "old")
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    (shown,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert shown["retentionInDays"] == 7
    arn = shown["logGroupArn"]
    logs.tag_resource(resourceArn=arn, tags={"stage": "b"})
    logs.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"stage": "b"}
    with pytest.raises(ClientError, match="retentionInDays must be one of"):
        logs.put_retention_policy(logGroupName=group, retentionInDays=2)
    assert "old" in messages(logs, group)
    logs.delete_log_group(logGroupName=group)
    with pytest.raises(ClientError, match="log group does not exist"):
        messages(logs, group)
    invoke(api, name, "new")
    found = messages(logs, group)
    assert "new" in found
    assert "old" not in found


def test_unknown_operations_and_patterns_say_so(logs: Any, api: Any, deploy: Deploy) -> None:
    with pytest.raises(ClientError) as unknown:
        logs.describe_metric_filters()
    assert unknown.value.response["Error"]["Code"] == "UnknownOperationException"
    name = deploy(SAY)
    invoke(api, name, "x")
    with pytest.raises(ClientError, match="not supported here"):
        messages(logs, f"/aws/lambda/{name}", filterPattern="[a, b]")


def test_the_aws_cli_reads_a_group(
    api: Any, platform: Platform, deploy: Deploy, tmp_path: Path
) -> None:
    """With the requests of ``aws logs tail --follow``, which version 1 of the CLI does not have."""
    name = deploy(SAY)
    aws = Path(sys.executable).with_name("aws")
    keys = platform.credentials()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": keys["endpoint_url"],
        "AWS_DEFAULT_REGION": keys["region_name"],
        "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
    }

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [aws, "logs", *arguments, "--output", "json"],
            env=environment, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return json.loads(done.stdout)

    group = f"/aws/lambda/{name}"
    invoke(api, name, "before")
    groups = [known["logGroupName"] for known in run("describe-log-groups")["logGroups"]]
    assert group in groups
    asked = ("filter-log-events", "--log-group-name", group, "--interleaved", "--start-time")
    first = run(*asked, "0")["events"]
    assert any("before" in event["message"] for event in first)
    invoke(api, name, "afterwards")
    seen = {event["eventId"] for event in first}
    later = run(*asked, str(max(event["timestamp"] for event in first)))["events"]
    fresh = [event["message"] for event in later if event["eventId"] not in seen]
    assert any("afterwards" in message for message in fresh)
    assert not any("before" in message for message in fresh)
