"""Policies, ready to be asked. Nothing here reads JSON, waits or raises.

What this release does not understand never lets anybody in: such a statement allows nothing, and
denies as if it applied.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilotlight.ports.auth import Access, Principal, Verdict
from pilotlight.wire.iam.conditions import Condition
from pilotlight.wire.iam.patterns import matches

ANYBODY = "*"


@dataclass(frozen=True, slots=True)
class Choice:
    """Patterns of actions or resources; ``is_not``: everything but these."""

    patterns: tuple[str, ...]
    is_not: bool = False

    def has(self, text: str) -> bool:
        """Whether the text is meant."""
        return any(matches(pattern, text) for pattern in self.patterns) != self.is_not


@dataclass(frozen=True, slots=True)
class Principals:
    """Who a statement is about.

    Attributes:
        names: ARNs and ``*``.
        accounts: all of an account, as its number or the ARN of its root names it.
        services: names of services.
    """

    names: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    def verdict(self, principal: Principal) -> Verdict:
        """ALLOWED where the principal itself is meant, DELEGATED where its account is."""
        if ANYBODY in self.names or not self.names.isdisjoint(principal.names):
            return Verdict.ALLOWED
        if principal.service:
            is_meant = principal.service in self.services
            return Verdict.ALLOWED if is_meant else Verdict.SILENT
        return Verdict.DELEGATED if principal.account in self.accounts else Verdict.SILENT


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        actions: patterns in lower case: names of actions are compared without their case.
        resources: None in a trust policy: the role itself is meant.
        principals: None in an identity's policy: whoever has it is meant.
        is_understood: False where anything in it means nothing to this release.
    """

    is_deny: bool
    actions: Choice
    resources: Choice | None
    principals: Principals | None = None
    conditions: tuple[Condition, ...] = ()
    sid: str = ""
    is_understood: bool = True

    def verdict(self, access: Access) -> Verdict:
        """What this statement alone says."""
        if not self.is_understood:
            return Verdict.DENIED if self.is_deny else Verdict.SILENT
        meant = Verdict.ALLOWED
        if self.principals is not None:
            meant = self.principals.verdict(access.principal)
        applies = (
            meant is not Verdict.SILENT
            and self.actions.has(access.action.lower())
            and (self.resources is None or self.resources.has(access.resource))
            and self._are_met(access.context)
        )
        if not applies:
            return Verdict.SILENT
        return Verdict.DENIED if self.is_deny else meant

    def _are_met(self, context: Mapping[str, str]) -> bool:
        for condition in self.conditions:
            met = condition.is_met(context) if condition.is_understood else self.is_deny
            if not met:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Policy:
    """Statements of one document, or of several that apply together."""

    statements: tuple[Statement, ...] = ()

    def verdict(self, access: Access) -> Verdict:
        """DENIED if any statement denies, else the most that one of them gives."""
        found = Verdict.SILENT
        for statement in self.statements:
            says = statement.verdict(access)
            if says is Verdict.DENIED:
                return says
            if says is Verdict.ALLOWED or found is Verdict.SILENT:
                found = says
        return found


def joined(policies: tuple[Policy, ...]) -> Policy:
    """One policy of all the statements."""
    return Policy(tuple(statement for policy in policies for statement in policy.statements))
