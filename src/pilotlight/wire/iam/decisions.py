"""From what policies say to a decision, in the service's words.

Within an account an identity's policy or the resource's is enough; across accounts both are
needed; services have only the resource's. A denial wins over everything.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics.html
and …/troubleshoot_access-denied.html
"""

from __future__ import annotations

from pilotlight.ports.auth import ALLOWED, Decision, Verdict


def owner_of(resource: str, default: str) -> str:
    """Account of a resource's ARN; ``default`` where it names none."""
    parts = resource.split(":", 5)
    return (parts[4] if len(parts) > 4 else "") or default  # noqa: PLR2004


def decide(
    identity: Verdict, resource: Verdict, *, is_same_account: bool, who: str, action: str, what: str
) -> Decision:
    """Join the verdicts of a principal's policies and of a resource's.

    Args:
        identity: of the caller's policies; ALLOWED for an account itself.
        resource: of the resource's policy; SILENT where it has none.
        is_same_account: caller and resource belong to the same account.
        who: ARN of the caller.
        action: that was asked for.
        what: ARN of the resource.
    """
    if Verdict.DENIED in (identity, resource):
        kind = "an identity-based" if identity is Verdict.DENIED else "a resource-based"
        return _refused(who, action, what, f"with an explicit deny in {kind} policy")
    is_granted = identity is Verdict.ALLOWED
    if is_same_account:
        if is_granted or resource is Verdict.ALLOWED:
            return ALLOWED
        missing = "identity"
    else:
        is_named = resource in (Verdict.ALLOWED, Verdict.DELEGATED)
        if is_granted and is_named:
            return ALLOWED
        missing = "identity" if is_named else "resource"
    return _refused(
        who, action, what, f"because no {missing}-based policy allows the {action} action"
    )


def decide_service(resource: Verdict, *, service: str, action: str, what: str) -> Decision:
    """Decide about a service: only the resource's policy can admit it."""
    if resource is Verdict.ALLOWED:
        return ALLOWED
    if resource is Verdict.DENIED:
        return _refused(service, action, what, "with an explicit deny in a resource-based policy")
    why = f"because no resource-based policy allows the {action} action"
    return _refused(service, action, what, why)


def _refused(who: str, action: str, what: str, why: str) -> Decision:
    return Decision(
        is_allowed=False,
        reason=f"User: {who} is not authorized to perform: {action} on resource: {what} {why}",
    )
