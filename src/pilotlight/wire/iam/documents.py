"""Policies as JSON documents: checked when they are written, read leniently where they are stored.

`check` refuses what this release does not understand, in the service's words. `read` takes any
JSON value, because a newer release may have stored it; what it cannot make sense of becomes a
statement that allows nothing (see `policy`).

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import msgspec

from pilotlight.wire.iam.conditions import Condition, condition
from pilotlight.wire.iam.policy import ANYBODY, Choice, Policy, Principals, Statement

VERSIONS: Final = frozenset({"2008-10-17", "2012-10-17"})
_ACTION = re.compile(r"[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+")
_RESOURCE = re.compile(r"arn:[^:]*:[^:]*:[^:]*:[^:]*:.+|\*", re.DOTALL)
_SID = re.compile(r"[A-Za-z0-9]*")
_ACCOUNT = re.compile(r"(?:arn:aws[a-zA-Z-]*:iam::)?(\d{12})(?::root)?", re.ASCII)
_PRINCIPAL = re.compile(r"arn:aws[a-zA-Z-]*:(iam|sts)::\d{12}:[^*?]+", re.ASCII)
_SERVICE = re.compile(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com)")
_STATEMENT_MEMBERS: Final = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
_SYNTAX: Final = "Syntax errors in policy."
_PRINCIPAL_KINDS: Final = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})


class Kind(StrEnum):
    """Where a policy stands, which says what its statements have."""

    IDENTITY = "identity"
    RESOURCE = "resource"
    TRUST = "trust"


class MalformedPolicy(Exception):
    """A document is no policy, or says something that this release does not understand."""


def check(text: str | bytes, kind: Kind) -> Policy:
    """Read a document that is about to be stored.

    Raises:
        MalformedPolicy: with the service's text where it has one.
    """
    document = _document(text)
    raw = _list(document["Statement"])
    policy = Policy(tuple(_checked(statement, kind) for statement in raw))
    sids = [statement.sid for statement in policy.statements if statement.sid]
    if len(sids) != len(set(sids)):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
    return policy


def read(statements: Sequence[object], kind: Kind) -> Policy:
    """Read statements that are stored; never fails."""
    return Policy(tuple(_read(statement, kind) for statement in statements))


@lru_cache(maxsize=4096)
def read_document(text: str, kind: Kind) -> Policy:
    """Read a document that is stored; never fails."""
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return read([None], kind)
    return read(_list(document.get("Statement")), kind)


def _document(text: str | bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise MalformedPolicy("This policy contains invalid Json") from None
    if not document.keys() <= {"Version", "Id", "Statement"}:
        raise MalformedPolicy(_SYNTAX)
    if document.get("Version", "2008-10-17") not in VERSIONS:
        raise MalformedPolicy("The policy must contain a valid version string")
    statements = document.get("Statement")
    if not isinstance(statements, dict | list) or not statements:
        raise MalformedPolicy(_SYNTAX)
    return document


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _checked(raw: object, kind: Kind) -> Statement:
    if not isinstance(raw, dict) or not raw.keys() <= _STATEMENT_MEMBERS:
        raise MalformedPolicy(_SYNTAX)
    if raw.get("Effect") not in {"Allow", "Deny"} or not _is_sid(raw.get("Sid", "")):
        raise MalformedPolicy(_SYNTAX)
    _check_actions(raw)
    _check_resources(raw, kind)
    if kind is Kind.IDENTITY:
        if raw.keys() & {"Principal", "NotPrincipal"}:
            raise MalformedPolicy("Policy document should not specify a principal.")
    else:
        _check_principal(raw)
    statement = _read(raw, kind)
    _check_conditions(statement.conditions)
    if not statement.is_understood:
        raise MalformedPolicy(_SYNTAX)
    return statement


def _is_sid(sid: object) -> bool:
    return isinstance(sid, str) and _SID.fullmatch(sid) is not None


def _texts(raw: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """The texts of a member that is one or a list of them; None where it is neither."""
    values = _list(raw.get(name))
    if values and all(isinstance(value, str) for value in values):
        return tuple(values)
    return None


def _either(raw: Mapping[str, Any], name: str) -> Choice | None:
    """What ``Action`` and ``NotAction`` say, or the same of resources; None where it is unclear."""
    if name in raw and f"Not{name}" in raw:
        return None
    is_not = name not in raw
    patterns = _texts(raw, f"Not{name}" if is_not else name)
    return None if patterns is None else Choice(patterns, is_not)


def _check_actions(raw: Mapping[str, Any]) -> None:
    choice = _either(raw, "Action")
    if choice is None:
        missing = not raw.keys() & {"Action", "NotAction"}
        raise MalformedPolicy("Policy statement must contain actions." if missing else _SYNTAX)
    for action in choice.patterns:
        if action != "*" and _ACTION.fullmatch(action) is None:
            raise MalformedPolicy(
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
            )


def _check_resources(raw: Mapping[str, Any], kind: Kind) -> None:
    if kind is Kind.TRUST:
        found = sorted(raw.keys() & {"Resource", "NotResource"})
        if found:
            raise MalformedPolicy(f"Has prohibited field {found[0]}")
        return
    choice = _either(raw, "Resource")
    if choice is None:
        missing = not raw.keys() & {"Resource", "NotResource"}
        raise MalformedPolicy("Policy statement must contain resources." if missing else _SYNTAX)
    for resource in choice.patterns:
        if _RESOURCE.fullmatch(resource) is None:
            raise MalformedPolicy(f'Resource {resource[:256]} must be in ARN format or "*".')
        if "${" in resource:
            raise MalformedPolicy("Policy variables are not supported: write the value itself.")


def _check_principal(raw: Mapping[str, Any]) -> None:
    if "Principal" not in raw or "NotPrincipal" in raw:
        raise MalformedPolicy(
            "Policy document must have Principal, and NotPrincipal is unsupported."
        )
    for kind, name in _named(raw["Principal"]):
        if not _is_principal(kind, name):
            raise MalformedPolicy(f'Invalid principal in policy: "{kind}":"{name[:256]}"')


def _is_principal(kind: str, name: str) -> bool:
    if kind == "AWS":
        known = name == ANYBODY or _ACCOUNT.fullmatch(name) or _PRINCIPAL.fullmatch(name)
        return bool(known)
    if kind == "Service":
        return _SERVICE.fullmatch(name) is not None
    return True  # identities of other kinds do not come here, so the statement is about nobody


def _named(raw: object) -> list[tuple[str, str]]:
    """Kind and name of every principal.

    Raises:
        MalformedPolicy: they are not written as principals.
    """
    if raw == ANYBODY:
        return [("AWS", ANYBODY)]
    if not isinstance(raw, dict) or not raw or not raw.keys() <= _PRINCIPAL_KINDS:
        raise MalformedPolicy(_SYNTAX)
    found: list[tuple[str, str]] = []
    for kind in raw:
        names = _texts(raw, kind)
        if names is None:
            raise MalformedPolicy(_SYNTAX)
        found.extend((kind, name) for name in names)
    return found


def _check_conditions(conditions: Sequence[Condition]) -> None:
    for known in conditions:
        if not known.is_understood:
            raise MalformedPolicy(
                f"The condition {known.prefix}{known.operator} on {known.key} is not supported."
            )
        if any("${" in wanted for wanted in known.wanted):
            raise MalformedPolicy("Policy variables are not supported: write the value itself.")


def _read(raw: object, kind: Kind) -> Statement:
    is_deny = not isinstance(raw, dict) or raw.get("Effect") != "Allow"
    statement = _understood(raw, kind, is_deny=is_deny) if isinstance(raw, dict) else None
    if statement is not None:
        return statement
    return Statement(is_deny=is_deny, actions=Choice(("*",)), resources=None, is_understood=False)


def _understood(raw: Mapping[str, Any], kind: Kind, *, is_deny: bool) -> Statement | None:
    actions, conditions = _either(raw, "Action"), _conditions(raw.get("Condition", {}))
    resources = None if kind is Kind.TRUST else _either(raw, "Resource")
    principals = _principals(raw)
    if raw.get("Effect") not in {"Allow", "Deny"} or actions is None or conditions is None:
        return None
    if (resources is None) != (kind is Kind.TRUST) or _has_variable(resources):
        return None
    if (principals is None) != (kind is Kind.IDENTITY) or "NotPrincipal" in raw:
        return None
    return Statement(
        is_deny=is_deny,
        actions=Choice(tuple(map(str.lower, actions.patterns)), actions.is_not),
        resources=resources,
        principals=principals,
        conditions=conditions,
        sid=raw["Sid"] if isinstance(raw.get("Sid"), str) else "",
    )


def _has_variable(resources: Choice | None) -> bool:
    return resources is not None and any("${" in pattern for pattern in resources.patterns)


def _principals(raw: Mapping[str, Any]) -> Principals | None:
    """Who is named; None where nobody is, or not in a way that is understood."""
    try:
        named = _named(raw.get("Principal"))
    except MalformedPolicy:
        return None
    aws = {name: _ACCOUNT.fullmatch(name) for kind, name in named if kind == "AWS"}
    return Principals(
        names=frozenset(name for name, account in aws.items() if account is None),
        accounts=frozenset(account[1] for account in aws.values() if account is not None),
        services=frozenset(name for kind, name in named if kind == "Service"),
    )


def _conditions(raw: object) -> tuple[Condition, ...] | None:
    if not isinstance(raw, dict) or not all(isinstance(keys, dict) for keys in raw.values()):
        return None
    found: list[Condition] = []
    for operator, keys in raw.items():
        for key in keys:
            values = _list(keys[key])
            if not values or not all(isinstance(value, str | bool | int) for value in values):
                return None
            wanted = tuple(_text(value) for value in values)
            found.append(condition(operator, key, wanted))
    return tuple(found)


def _text(value: str | bool | int) -> str:  # noqa: FBT001  (a JSON value)
    return str(value).lower() if isinstance(value, bool) else str(value)
