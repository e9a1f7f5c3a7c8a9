"""A function made from a staged package on a real platform."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config

from pilotlight.testing.client import invoke, zipped
from pilotlight.testing.platform import Platform

pytestmark = [pytest.mark.timeout(120)]


def test_a_staged_package_runs(platform: Platform, api: Any) -> None:
    s3 = boto3.client(
        "s3", config=Config(s3={"addressing_style": "path"}), **platform.credentials()
    )
    s3.create_bucket(Bucket="e2e-code")
    source = "def handler(event, context):\n    return ['staged', event]\n"
    s3.put_object(Bucket="e2e-code", Key="a/b.zip", Body=zipped({"app.py": source}))
    assert s3.head_object(Bucket="e2e-code", Key="a/b.zip")["ContentLength"] > 0
    api.create_function(
        FunctionName="from-staging", Runtime="python3.11", Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"S3Bucket": "e2e-code", "S3Key": "a/b.zip"},
    )  # fmt: skip
    api.get_waiter("function_active_v2").wait(
        FunctionName="from-staging", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    s3.delete_object(Bucket="e2e-code", Key="a/b.zip")
    s3.delete_bucket(Bucket="e2e-code")
    assert invoke(api, "from-staging", 1)[0] == ["staged", 1]
    api.delete_function(FunctionName="from-staging")
