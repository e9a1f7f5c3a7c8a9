"""Issuers of OIDC tokens: their public keys, fetched, kept and renewed.

Rules: keys are fetched again after ten minutes and when a token names one that is not there (keys
rotate), but not more often than every ten seconds, for anybody may send tokens. While the issuer
is away its last keys are good for an hour (decision D20), then nothing is.

Sources: https://openid.net/specs/openid-connect-discovery-1_0.html and RFC 7517.
"""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Final
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from pilotlight.model.errors import ApiError
from pilotlight.ports.clock import Clock

log = logging.getLogger(__name__)

Key = RSAKey | ECKey | OKPKey
Fetch = Callable[[str], Awaitable[bytes]]
"""Get a document, or raise OSError or ValueError."""

_DISCOVERY: Final = "/.well-known/openid-configuration"
_DOCUMENT_BYTES: Final = 1024 * 1024
_KEYS_MAX: Final = 64
_RSA_BITS_MIN: Final = 2048
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """Times in seconds.

    Attributes:
        fresh_s: keys younger than this are used without asking again.
        stale_s: keys older than this are not used at all.
        retry_s: shortest time between two fetches.
        timeout_s: of one fetch.
    """

    fresh_s: float = 600.0
    stale_s: float = 3600.0
    retry_s: float = 10.0
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class _Keys:
    by_id: Mapping[str, Key]
    unnamed: tuple[Key, ...]
    fetched_s: float


class Issuer:
    """The keys of one issuer.

    Args:
        url: as tokens name it in ``iss``.
        fetch: gets a document.
        clock: monotonic seconds are used.
        settings: limits.
    """

    def __init__(
        self, url: str, *, fetch: Fetch, clock: Clock, settings: IssuerSettings | None = None
    ) -> None:
        self.url = url
        self._fetch = fetch
        self._clock = clock
        self._settings = settings or IssuerSettings()
        self._keys: _Keys | None = None
        self._tried_s: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, key_id: str | None) -> Key | None:
        """The key of this id, or the only key where a token names none; None: there is none.

        Raises:
            ApiError: ServiceUnavailableException, the issuer is away and no keys are left.
        """
        if self._is_older_than(self._settings.fresh_s):
            await self._renew()
        found = self._find(key_id)
        if found is None:
            await self._renew()
            found = self._find(key_id)
        return found

    def _find(self, key_id: str | None) -> Key | None:
        keys = self._keys
        if keys is None or self._is_older_than(self._settings.stale_s):
            raise ApiError(
                "ServiceUnavailableException",
                f"The token issuer {self.url} cannot be reached: retry.",
                status=503,
            )
        if key_id is not None:
            return keys.by_id.get(key_id)
        every = [*keys.by_id.values(), *keys.unnamed]
        return every[0] if len(every) == 1 else None

    def _is_older_than(self, age_s: float) -> bool:
        return self._keys is None or self._clock.monotonic() - self._keys.fetched_s > age_s

    async def _renew(self) -> None:
        """Fetch the keys, unless that was tried just now; what cannot be had leaves the old ones."""
        async with self._lock:
            now_s = self._clock.monotonic()
            if self._tried_s is not None and now_s - self._tried_s < self._settings.retry_s:
                return
            self._tried_s = now_s
            try:
                async with asyncio.timeout(2 * self._settings.timeout_s):
                    self._keys = await self._fetched(now_s)
            except (OSError, ValueError, HTTPException, TimeoutError) as fault:
                log.warning("issuer_away", extra={"issuer": self.url, "detail": str(fault)})

    async def _fetched(self, now_s: float) -> _Keys:
        discovery = _object(await self._fetch(self.url.rstrip("/") + _DISCOVERY))
        if discovery.get("issuer") != self.url:
            raise ValueError(f"its discovery document is of {discovery.get('issuer')!r:.200}")
        place = discovery.get("jwks_uri")
        if not isinstance(place, str) or not is_safe_url(place):
            raise ValueError("its discovery document names no usable jwks_uri")
        documents = _object(await self._fetch(place)).get("keys")
        if not isinstance(documents, list):
            raise ValueError("its key document has no keys")  # noqa: TRY004  (a fault of the text)
        by_id: dict[str, Key] = {}
        unnamed: list[Key] = []
        for document in documents[:_KEYS_MAX]:
            key = read_key(document)
            if key is None:
                continue
            key_id = document.get("kid")
            if isinstance(key_id, str):
                by_id[key_id] = key
            else:
                unnamed.append(key)
        return _Keys(by_id, tuple(unnamed), now_s)


def read_key(document: object) -> Key | None:
    """A public key for signatures; None for anything else, secrets and weak keys included."""
    if not isinstance(document, dict) or document.get("use", "sig") != "sig":
        return None
    kinds: Mapping[object, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    kind = kinds.get(document.get("kty"))
    if kind is None:
        return None
    try:
        key = kind.import_key(document)
        size = key.public_key.key_size if isinstance(key, RSAKey) else _RSA_BITS_MIN
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if size >= _RSA_BITS_MIN else None


def is_safe_url(url: str) -> bool:
    """HTTPS, or plain HTTP on this machine, where nobody is in between."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    )


def _object(document: bytes) -> dict[str, Any]:
    found = json.loads(document)
    if not isinstance(found, dict):
        raise ValueError("its document is no JSON object")  # noqa: TRY004  (a fault of the text)
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where they were asked for, or not at all."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        return None


def fetch_over_http(timeout_s: float = 5.0) -> Fetch:
    """A `Fetch` with the system's certificates; no redirects, at most one MiB."""
    opener = urllib.request.build_opener(_NoRedirect)

    def get(url: str) -> bytes:
        if not is_safe_url(url):
            raise ValueError(f"{url} is not an https address")
        request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
        with opener.open(request, timeout=timeout_s) as answer:
            document: bytes = answer.read(_DOCUMENT_BYTES + 1)
        if len(document) > _DOCUMENT_BYTES:
            raise ValueError(f"{url} is larger than {_DOCUMENT_BYTES} bytes")
        return document

    async def fetch(url: str) -> bytes:
        return await asyncio.to_thread(get, url)

    return fetch
