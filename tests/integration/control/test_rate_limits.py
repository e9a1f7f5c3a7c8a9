"""Callers that are too quick are answered 429 by everything that answers on the listener."""

from __future__ import annotations

import http.client

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.control.gateway import CallerRates
from pilotlight.kernel.system import SystemClock
from pilotlight.model.rates import Rate
from pilotlight.testing.control_plane import ControlPlane, serving

pytestmark = pytest.mark.timeout(60)


def slow() -> ControlPlane:
    """Two calls, and the next one in an hour."""
    plane = ControlPlane()
    rate = Rate(1 / 3600, 2)
    plane.with_gateway(rates=CallerRates(account=rate, key=rate, clock=SystemClock()))
    return plane


def test_a_client_is_told_the_reason_and_when_to_come_again() -> None:
    with serving(slow) as plane:
        once = Config(retries={"max_attempts": 0})
        client = boto3.client("lambda", **plane.client_settings(), config=once)
        client.list_functions()
        client.list_functions()
        with pytest.raises(ClientError) as caught:
            client.list_functions()
    answer = caught.value.response
    assert answer["Error"]["Code"] == "TooManyRequestsException"
    assert answer["Reason"] == "CallerRateLimitExceeded"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert 3590 <= int(answer["retryAfterSeconds"]) <= 3600


def test_forged_and_unsigned_requests_use_up_nobodys_calls() -> None:
    with serving(slow) as plane:
        forged = plane.client_settings() | {"aws_secret_access_key": "not-the-secret"}
        for _ in range(5):
            with pytest.raises(ClientError, match="InvalidSignature"):
                boto3.client("lambda", **forged).list_functions()
        connection = http.client.HTTPConnection("127.0.0.1", plane.port)
        connection.request("GET", "/2015-03-31/functions")
        assert connection.getresponse().status == 403
        connection.close()
        boto3.client("lambda", **plane.client_settings()).list_functions()


def test_health_is_answered_whatever_the_rates() -> None:
    with serving(slow) as plane:
        connection = http.client.HTTPConnection("127.0.0.1", plane.port)
        for _ in range(5):
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()
