"""The registry's rules, without a store."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.control.api import limits, settings
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.registry import policies, rules, tags
from pilotlight.control.registry.references import Scope, parse_reference
from pilotlight.model.errors import ApiError
from pilotlight.model.function import (
    LATEST,
    Code,
    FunctionState,
    FunctionUrl,
    FunctionVersion,
    Isolation,
    LogFormat,
    Logging,
    UpdateStatus,
)
from pilotlight.model.ids import AccountId, Digest, RuntimeName
from pilotlight.wire.records import FunctionRecord, Policy

SCOPE = Scope("000000000000", "us-east-1")
REFERENCE = parse_reference("f", None, SCOPE)


def version(**changes: object) -> FunctionVersion:
    made = FunctionVersion(
        account=AccountId("000000000000"),
        region="us-east-1",
        name="f",
        version=LATEST,
        runtime=RuntimeName("python3.12"),
        handler="h.h",
        role="r",
        code=Code("sha", 1, Digest("a" * 64)),
        logging=Logging("/aws/lambda/f"),
        last_modified="t",
        revision_id="r0",
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # names are the test's


def active() -> FunctionRecord:
    record = rules.created(version(), {}, change_id="c", wall_s=0)
    return rules.settle(rules.serve(record, revision_id="r1"), revision_id="r2")


@pytest.mark.parametrize(
    ("text", "qualifier", "name", "found"),
    [
        ("f", None, "f", None),
        ("f", "", "f", None),
        ("f:1", None, "f", "1"),
        ("f:1", "1", "f", "1"),
        ("f", "live", "f", "live"),
        ("function:f", None, "f", None),
        ("000000000000:function:f:$LATEST", None, "f", "$LATEST"),
        ("arn:aws:lambda:us-east-1:000000000000:function:f:x_y", None, "f", "x_y"),
    ],
)
def test_references_are_understood(
    text: str, qualifier: str | None, name: str, found: str | None
) -> None:
    reference = parse_reference(text, qualifier, SCOPE)
    assert (reference.name, reference.qualifier) == (name, found)


@pytest.mark.parametrize(
    ("text", "qualifier", "code"),
    [
        ("f:1", "2", "InvalidParameterValueException"),
        ("arn:aws:lambda:eu-west-1:000000000000:function:f", None, "ResourceNotFoundException"),
        ("arn:aws:lambda:us-east-1:123456789012:function:f", None, "AccessDeniedException"),
        ("invalid:function:name", None, "ValidationException"),
        ("", None, "ValidationException"),
        ("f\n", None, "ValidationException"),
    ],
)
def test_other_references_are_refused(text: str, qualifier: str | None, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_reference(text, qualifier, SCOPE)
    assert caught.value.code == code


@given(st.text())
def test_any_text_is_a_reference_or_a_refusal(text: str) -> None:
    with contextlib.suppress(ApiError):
        assert parse_reference(text, None, SCOPE).name


def test_a_new_function_is_pending_and_nothing_is_served() -> None:
    record = rules.created(version(), {}, change_id="c", wall_s=0)
    assert record.current.state is FunctionState.PENDING
    assert record.serving is None
    with pytest.raises(ApiError, match="currently in the following state: Pending"):
        rules.check_updatable(record, REFERENCE)


def test_the_old_code_is_served_until_the_new_one_is_ready() -> None:
    record = active()
    changed = replace(record.current, code=Code("new", 2, Digest("b" * 64)), revision_id="r3")
    updating = rules.updated(record, changed, change_id="c2", wall_s=0)
    assert updating.current.last_update_status is UpdateStatus.IN_PROGRESS
    assert updating.serving == record.serving
    served = rules.serve(updating, revision_id="r4")
    assert served.serving is not None
    assert served.serving.code.sha256 == "new"
    assert served.serving.last_update_status is UpdateStatus.SUCCESSFUL
    assert served.current.last_update_status is UpdateStatus.IN_PROGRESS
    settled = rules.settle(served, revision_id="r5")
    assert settled.pending is None
    assert settled.serving == served.serving


def test_a_failed_creation_and_a_failed_update_differ() -> None:
    created = rules.created(version(), {}, change_id="c", wall_s=0)
    dead = rules.fail(created, reason="why", code="InternalError", revision_id="r")
    assert (dead.current.state, dead.current.state_reason) == (FunctionState.FAILED, "why")
    updating = rules.updated(active(), version(), change_id="c2", wall_s=0)
    stale = rules.fail(updating, reason="why", code="InternalError", revision_id="r")
    assert stale.current.state is FunctionState.ACTIVE
    assert stale.current.last_update_status is UpdateStatus.FAILED
    assert stale.serving == updating.serving


def test_isolation_changes_what_runs_and_tags_alone_do_not() -> None:
    record = active()
    touched = rules.touched(record, revision_id="r9")
    assert touched.serving == record.serving
    isolated = rules.with_isolation(touched, Isolation.PROCESS, revision_id="r10")
    assert isolated.serving is not None
    assert record.serving is not None
    assert isolated.serving.isolation is Isolation.PROCESS
    assert isolated.serving.identity != record.serving.identity


PUBLIC = {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}


@pytest.mark.parametrize(
    ("changes", "is_public"),
    [
        ({}, True),
        ({"FunctionUrlAuthType": None}, True),
        ({"Action": "lambda:InvokeFunction"}, False),
        ({"Action": "lambda:*"}, True),
        ({"Principal": "123456789012"}, False),
        ({"FunctionUrlAuthType": "AWS_IAM"}, False),
        ({"SourceArn": "arn:aws:s3:::b"}, False),
        ({"SourceAccount": "123456789012"}, False),
        ({"PrincipalOrgID": "o-1234567890"}, False),
    ],
)
def test_only_an_unconditional_permission_opens_a_url(
    changes: dict[str, str | None],
    is_public: bool,  # noqa: FBT001
) -> None:
    params = {
        "StatementId": "s",
        "Action": "lambda:InvokeFunctionUrl",
        "Principal": "*",
        "FunctionUrlAuthType": "NONE",
    } | changes
    policy = Policy(statements=(policies.statement(params, "arn"),), revision_id="r")
    assert policies.admits_anybody(policy) is is_public


@pytest.mark.parametrize(
    ("changes", "callers"),
    [
        ({}, ("arn:aws:iam::123456789012:root",)),
        ({"FunctionUrlAuthType": None}, ("arn:aws:iam::123456789012:root",)),
        ({"FunctionUrlAuthType": "NONE"}, ()),
        ({"Principal": "*"}, ("*",)),
        ({"Principal": "arn:aws:iam::123456789012:role/r"}, ("arn:aws:iam::123456789012:role/r",)),
        ({"Principal": "s3.amazonaws.com"}, ()),
        ({"Action": "lambda:InvokeFunction"}, ()),
        ({"PrincipalOrgID": "o-1234567890"}, ()),
        ({"SourceArn": "arn:aws:s3:::b"}, ()),
    ],
)
def test_who_may_sign_requests_to_a_url(
    changes: dict[str, str | None], callers: tuple[str, ...]
) -> None:
    params = {
        "StatementId": "s",
        "Action": "lambda:InvokeFunctionUrl",
        "Principal": "123456789012",
        "FunctionUrlAuthType": "AWS_IAM",
    } | changes
    statement = policies.statement(params, "arn")
    twice = Policy(statements=(statement, {**statement, "Sid": "t"}), revision_id="r")
    assert policies.admitted_callers(twice) == callers
    assert policies.admitted_callers(None) == ()


def test_a_url_follows_its_policy() -> None:
    url = FunctionUrl("u" * 32, AccountId("000000000000"), "us-east-1", "f", None, "NONE")
    record = rules.with_url(active(), "", url)
    assert not record.urls[""].is_public
    params = {"StatementId": "s", "Action": "lambda:InvokeFunctionUrl", "Principal": "*"}
    policy = policies.added(None, policies.statement(params, "arn"), revision_id="r")
    opened = rules.with_policy(record, "", policy)
    assert opened.urls[""].is_public
    closed = rules.with_policy(opened, "", policies.removed(policy, "s", revision_id="r"))
    assert not closed.urls[""].is_public
    assert closed.policies == {}


def test_a_principal_that_is_none_is_refused() -> None:
    with pytest.raises(ApiError, match="The provided principal was invalid"):
        policies.principal("invalid.nonaws.com")


@pytest.mark.parametrize(
    "bad",
    [
        {f"k{number}": "v" for number in range(51)},
        {"aws:key": "v"},
        {"": "v"},
        {"k": "v" * 257},
        {"pilotlight:isolation": "paper"},
    ],
)
def test_bad_tags_are_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ApiError):
        tags.merged({}, bad)


@given(st.text())
def test_markers_come_back_as_they_went(last: str) -> None:
    if last.isprintable():
        assert decode_marker(encode_marker(last)) == last


@given(st.text(min_size=1))
def test_a_forged_marker_never_crashes(marker: str) -> None:
    with contextlib.suppress(ApiError):
        decode_marker(marker)


def test_no_runtime_is_both_known_and_deprecated() -> None:
    assert not limits.RUNTIMES & limits.DEPRECATED_RUNTIMES
    limits.check_runtime("python3.12")
    with pytest.raises(ApiError, match="no longer supported"):
        limits.check_runtime("go1.x")


def test_log_levels_exist_only_for_json() -> None:
    text = Logging("/g")
    json = settings.changed_logging(text, {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"})
    assert json == Logging("/g", LogFormat.JSON, "INFO", "DEBUG")
    assert settings.changed_logging(json, {"LogFormat": "Text"}) == text
    with pytest.raises(ApiError):
        settings.changed_logging(text, {"ApplicationLogLevel": "INFO"})


def test_an_empty_value_clears_what_was_stored() -> None:
    def update(old: FunctionVersion, **params: object) -> FunctionVersion:
        return settings.changed_version(old, params, revision_id="r", modified="m")

    stored = update(version(), KMSKeyArn="k", DeadLetterConfig={"TargetArn": "t"})
    assert {"KMSKeyArn", "DeadLetterConfig"} <= stored.passive.keys()
    cleared = update(stored, KMSKeyArn="", DeadLetterConfig={"TargetArn": ""})
    assert not {"KMSKeyArn", "DeadLetterConfig"} & cleared.passive.keys()
