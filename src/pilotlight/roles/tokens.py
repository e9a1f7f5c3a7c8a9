"""Bearer tokens as the settings say."""

from __future__ import annotations

from pilotlight.config import Settings
from pilotlight.control.gateway import (
    Issuer,
    TokenGate,
    TokenRules,
    fetch_over_http,
    read_rule,
)
from pilotlight.model.ids import AccountId
from pilotlight.ports.clock import Clock


def gate(settings: Settings, clock: Clock) -> TokenGate | None:
    """What knows the issuers; None where there are none."""
    oidc = settings.oidc
    if not oidc.issuers or oidc.audience is None:
        return None
    fetch = fetch_over_http()
    return TokenGate(
        [Issuer(url, fetch=fetch, clock=clock) for url in oidc.issuers],
        TokenRules(
            audience=oidc.audience,
            allow=tuple(read_rule(rule) for rule in oidc.allow),
            principal_claim=oidc.principal_claim,
        ),
        account=AccountId(settings.account_id),
        region=settings.region,
        clock=clock,
    )
