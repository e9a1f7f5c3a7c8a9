"""Settings that would let the world in, or clients down, are refused at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.config.settings import load_settings
from pilotlight.model.errors import ConfigurationError

GOOD = {
    "PILOTLIGHT_OIDC__ISSUERS": "https://issuer.example/realm",
    "PILOTLIGHT_OIDC__AUDIENCE": "pilotlight",
    "PILOTLIGHT_OIDC__ALLOW": "repository=acme/app&ref=refs/heads/main",
}


def test_issuers_with_audience_and_rule_are_taken(tmp_path: Path) -> None:
    oidc = load_settings(environment=GOOD, directory=tmp_path).oidc
    assert oidc.issuers == ("https://issuer.example/realm",)
    assert oidc.allow == ("repository=acme/app&ref=refs/heads/main",)


@pytest.mark.parametrize(
    "changes",
    [
        {"PILOTLIGHT_OIDC__AUDIENCE": None},
        {"PILOTLIGHT_OIDC__ALLOW": None},
        {"PILOTLIGHT_OIDC__ALLOW": "anything"},
        {"PILOTLIGHT_OIDC__ALLOW": "sub="},
        {"PILOTLIGHT_OIDC__ISSUERS": "http://issuer.example"},
        {"PILOTLIGHT_OIDC__ISSUERS": "http://localhost.evil.example"},
        {"PILOTLIGHT_TLS__CERTIFICATE": "/chain.pem"},
        {"PILOTLIGHT_LIMITS__CONTROL_PER_S": "0"},
        {"PILOTLIGHT_LIMITS__KEY_SHARE": "2"},
    ],
)
def test_what_would_let_the_world_in_or_nobody_is_refused(
    tmp_path: Path, changes: dict[str, str | None]
) -> None:
    given = {name: text for name, text in (GOOD | changes).items() if text is not None}
    with pytest.raises(ConfigurationError):
        load_settings(environment=given, directory=tmp_path)
