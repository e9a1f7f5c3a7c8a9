"""Resource policies: statements as the service renders them, and what they allow.

Source: https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilotlight.model.errors import ApiError
from pilotlight.wire.records import Policy

_ACCOUNT = re.compile(r"\d{12}")
_ARN = re.compile(r"arn:aws[a-zA-Z-]*:(iam|sts)::\d{12}:.+")
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?")
_URL_ACTIONS = frozenset({"lambda:InvokeFunctionUrl", "lambda:*", "*"})
_AUTH_TYPE = "lambda:FunctionUrlAuthType"

POLICY_BYTES = 20 * 1024
"""Largest policy of one function or qualifier."""


def principal(text: str) -> str | dict[str, str]:
    """Render the ``Principal`` of a statement.

    Raises:
        ApiError: InvalidParameterValueException; it is no account, ARN or service.
    """
    if text == "*":
        return "*"
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:aws:iam::{text}:root"}
    if _ARN.fullmatch(text):
        return {"AWS": text}
    if _SERVICE.fullmatch(text):
        return {"Service": text}
    raise ApiError(
        "InvalidParameterValueException",
        "The provided principal was invalid. Please check the principal and try again.",
    )


def _condition(params: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    condition: dict[str, dict[str, str]] = {}
    equals = {
        "AWS:SourceAccount": params.get("SourceAccount"),
        _AUTH_TYPE: params.get("FunctionUrlAuthType"),
        "aws:PrincipalOrgID": params.get("PrincipalOrgID"),
        "lambda:EventSourceToken": params.get("EventSourceToken"),
    }
    equals = {name: value for name, value in equals.items() if value}
    if equals:
        condition["StringEquals"] = equals  # type: ignore[assignment]  # None was filtered
    if params.get("InvokedViaFunctionUrl") is not None:
        value = "true" if params["InvokedViaFunctionUrl"] else "false"
        condition["Bool"] = {"lambda:InvokedViaFunctionUrl": value}
    if params.get("SourceArn"):
        condition["ArnLike"] = {"AWS:SourceArn": params["SourceArn"]}
    return condition


def statement(params: Mapping[str, Any], resource: str) -> dict[str, Any]:
    """Render the statement that AddPermission's parameters describe.

    Raises:
        ApiError: InvalidParameterValueException for a principal that cannot be one.
    """
    rendered: dict[str, Any] = {
        "Sid": params["StatementId"],
        "Effect": "Allow",
        "Principal": principal(params["Principal"]),
        "Action": params["Action"],
        "Resource": resource,
    }
    condition = _condition(params)
    if condition:
        rendered["Condition"] = condition
    return rendered


def added(policy: Policy | None, new: Mapping[str, Any], *, revision_id: str) -> Policy:
    """The policy with one statement more.

    Raises:
        ApiError: ResourceConflictException, the statement's id is taken.
    """
    statements = policy.statements if policy else ()
    if any(known["Sid"] == new["Sid"] for known in statements):
        raise ApiError(
            "ResourceConflictException",
            f"The statement id ({new['Sid']}) provided already exists. Please provide a new "
            "statement id, or remove the existing statement.",
        )
    return Policy(statements=(*statements, new), revision_id=revision_id)


def removed(policy: Policy, sid: str, *, revision_id: str) -> Policy | None:
    """The policy without a statement, None when that was the last one.

    Raises:
        ApiError: ResourceNotFoundException.
    """
    rest = tuple(known for known in policy.statements if known["Sid"] != sid)
    if len(rest) == len(policy.statements):
        raise ApiError(
            "ResourceNotFoundException", f"Statement {sid} is not found in resource policy."
        )
    return Policy(statements=rest, revision_id=revision_id) if rest else None


def check_policy_revision(
    policy: Policy | None, function_revision: str, wanted: str | None
) -> None:
    """Compare the caller's ``RevisionId``: the policy's own, or the function's.

    Raises:
        ApiError: PreconditionFailedException.
    """
    known = {function_revision, policy.revision_id if policy else function_revision}
    if wanted and wanted not in known:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetPolicy API to retrieve the latest Revision Id",
        )


def admits_anybody(policy: Policy | None) -> bool:
    """Whether an unsigned request to a URL with AuthType NONE is allowed.

    A condition on anything but the URL's own authentication type is about a signed caller or an
    event source: an unsigned request never meets it.
    """
    return policy is not None and any(_is_public(known) for known in policy.statements)


def admitted_callers(policy: Policy | None) -> tuple[str, ...]:
    """Principals that may sign requests to a URL with AuthType AWS_IAM: ARNs, or ``*``.

    A condition on an event source or an organisation is about something that such a request does
    not have, so the statement admits nobody here.
    """
    found = [_caller(known) for known in (policy.statements if policy is not None else ())]
    return tuple(dict.fromkeys(caller for caller in found if caller is not None))


def _caller(known: Mapping[str, Any]) -> str | None:
    if known["Action"] not in _URL_ACTIONS:
        return None
    if known.get("Condition", {}) not in ({}, {"StringEquals": {_AUTH_TYPE: "AWS_IAM"}}):
        return None
    named = known["Principal"]
    return named if isinstance(named, str) else named.get("AWS")


def _is_public(known: Mapping[str, Any]) -> bool:
    if known["Principal"] != "*" or known["Action"] not in _URL_ACTIONS:
        return False
    condition = known.get("Condition", {})
    return condition in ({}, {"StringEquals": {_AUTH_TYPE: "NONE"}})
