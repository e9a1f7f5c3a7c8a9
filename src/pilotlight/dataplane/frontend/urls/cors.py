"""Cross-origin resource sharing of a function URL, from its configuration.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_Cors.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Fields = tuple[tuple[str, str], ...]
_PREFIX = "access-control-"
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,4096}")


@dataclass(frozen=True, slots=True)
class Cors:
    """``Cors`` of a function URL, with the API's meaning of each member."""

    allow_origins: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age_s: int = 0


def read_cors(config: Mapping[str, object] | None) -> Cors | None:
    """The configuration as the API stores it, or None where there is none."""
    if not config:
        return None
    age = config.get("MaxAge")
    return Cors(
        allow_origins=_texts(config.get("AllowOrigins")),
        allow_methods=_texts(config.get("AllowMethods")),
        allow_headers=_texts(config.get("AllowHeaders")),
        expose_headers=_texts(config.get("ExposeHeaders")),
        allow_credentials=config.get("AllowCredentials") is True,
        max_age_s=age if isinstance(age, int) else 0,
    )


def allowed_origin(cors: Cors, origin: str) -> str | None:
    """Value of Access-Control-Allow-Origin for this origin, or None where it may not call.

    With credentials a browser does not take ``*``, so the origin itself is named.
    """
    if "*" in cors.allow_origins:
        return origin if cors.allow_credentials else "*"
    lowered = origin.lower()
    return origin if any(lowered == allowed.lower() for allowed in cors.allow_origins) else None


def preflight_headers(cors: Cors, origin: str, *, method: str, headers: str) -> Fields:
    """Headers that answer a preflight; none where the origin may not call.

    Args:
        cors: the configuration.
        origin: ``Origin`` of the preflight.
        method: its ``Access-Control-Request-Method``.
        headers: its ``Access-Control-Request-Headers``, "" without any.
    """
    fields = _origin_headers(cors, origin)
    if not fields:
        return ()
    methods = _named(cors.allow_methods, method, cors)
    if methods:
        fields.append(("access-control-allow-methods", methods))
    allowed = _named(cors.allow_headers, headers, cors)
    if allowed:
        fields.append(("access-control-allow-headers", allowed))
    fields.append(("access-control-max-age", str(cors.max_age_s)))
    return tuple(fields)


def _named(allowed: tuple[str, ...], wanted: str, cors: Cors) -> str:
    """The allowed names; with credentials a browser takes no ``*``, so what it asked for."""
    if cors.allow_credentials and "*" in allowed and _NAMES.fullmatch(wanted):
        return wanted
    return ",".join(allowed)


def response_headers(cors: Cors, origin: str, given: Sequence[tuple[str, str]]) -> Fields:
    """A response's headers with those of the configuration in place of the function's own.

    Caches keep the function's ``Vary``, and ours beside it.
    """
    own = [field for field in given if not field[0].startswith(_PREFIX)]
    added = _origin_headers(cors, origin)
    if added and cors.expose_headers:
        added.append(("access-control-expose-headers", ",".join(cors.expose_headers)))
    return tuple(own + added)


def _origin_headers(cors: Cors, origin: str) -> list[tuple[str, str]]:
    allowed = allowed_origin(cors, origin)
    if allowed is None:
        return []
    headers = [("access-control-allow-origin", allowed)]
    if allowed != "*":
        headers.append(("vary", "Origin"))
    if cors.allow_credentials:
        headers.append(("access-control-allow-credentials", "true"))
    return headers


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        return ()
    return tuple(str(item) for item in value)
