"""TLS of the listeners: certificate and key from files, renewed without a restart.

New files are tried apart first. If they cannot be used (half written, not a pair, encrypted) the old
ones stay, and the log says why. Connections that are open keep what they began with.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from pilotlight.model.errors import ConfigurationError

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class TlsFiles:
    """A certificate chain and its key in PEM files; a `Part` that watches them.

    Args:
        certificate: the chain, the listener's own certificate first.
        private_key: without a password, readable by the user that the platform runs as.
        period_s: how often the files are looked at.

    Raises:
        ConfigurationError: they cannot be used.
    """

    name = "tls"

    def __init__(self, certificate: Path, private_key: Path, *, period_s: float = 5.0) -> None:
        self._certificate = certificate
        self._private_key = private_key
        self._period_s = period_s
        self._asked = asyncio.Event()
        self._stamp = self._look()
        self._newest = self._load()
        self.context = self._load()
        """What a listener takes for all its connections."""
        self.context.sni_callback = self._choose

    async def run(self, ready: Callable[[], None]) -> None:
        """Watch until cancelled. See `Part`."""
        ready()
        while True:
            try:
                async with asyncio.timeout(self._period_s):
                    await self._asked.wait()
            except TimeoutError:
                pass
            is_asked = self._asked.is_set()
            self._asked.clear()
            await asyncio.to_thread(self.renew, even_unchanged=is_asked)

    def ask(self) -> None:
        """Look at the files now; safe in a signal handler of the loop."""
        self._asked.set()

    def renew(self, *, even_unchanged: bool = False) -> bool:
        """Take the files if they changed; return whether new connections get what is in them."""
        try:
            stamp = self._look()
            if stamp == self._stamp and not even_unchanged:
                return False
            self._stamp = stamp
            self._newest = self._load()
        except ConfigurationError as fault:
            log.error("tls_not_renewed", extra={"detail": str(fault)})  # noqa: TRY400  (expected)
            return False
        log.info("tls_renewed", extra={"certificate": str(self._certificate)})
        return True

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: object) -> None:
        # Called in every handshake, with and without a name: it may change the context.
        connection.context = self._newest

    def _look(self) -> _Stamp:
        try:
            found = [path.stat() for path in (self._certificate, self._private_key)]
        except OSError as exc:
            raise ConfigurationError(f"{exc.filename} cannot be read: {exc.strerror}") from exc
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        try:
            # The password would be asked for on the terminal, where nobody is.
            context.load_cert_chain(self._certificate, self._private_key, password="")
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"[tls] {self._certificate} and {self._private_key} cannot be used: {exc}. They must"
                " be a certificate chain and its private key in PEM form, without a password, and"
                " readable by the user that Pilotlight runs as."
            ) from exc
        return context
