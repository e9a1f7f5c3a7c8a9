"""Download addresses of packages: presigned URLs of this listener (``Code.Location``)."""

from __future__ import annotations

import re
from typing import Final

from pilotlight.control.gateway.auth import RootCredentials
from pilotlight.model.ids import Digest
from pilotlight.ports.auth import SignedRequest
from pilotlight.ports.clock import Clock
from pilotlight.wire import sigv4

PATH: Final = "/api/v1/code/"
EXPIRES_S: Final = 600
"""How long a link is good; the service's links are good for ten minutes too."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class CodeLinks:
    """Makes links. Whoever holds one may download that package until it expires."""

    def __init__(self, credentials: RootCredentials, *, clock: Clock) -> None:
        self._credentials = sigv4.SigningCredentials(credentials.access_key, credentials.secret_key)
        self._clock = clock

    def link(self, digest: str, *, origin: str, host: str, region: str) -> str:
        """A link to a package.

        Args:
            digest: of the package.
            origin: scheme and authority the caller reached us by, for example
                ``http://127.0.0.1:9700``.
            host: the caller's ``Host`` header, which the download must repeat.
            region: of the signature's scope.
        """
        path = PATH + digest
        request = SignedRequest(b"GET", path.encode(), b"", [(b"host", host.encode())])
        query = sigv4.presign(
            request,
            credentials=self._credentials,
            region=region,
            service="lambda",
            now_s=self._clock.wall(),
            expires_s=EXPIRES_S,
        )
        return f"{origin}{path}?{query.decode('ascii')}"


def package_of(path: str) -> Digest | None:
    """The package that a download's path names, None when it names none."""
    digest = path.removeprefix(PATH)
    return Digest(digest) if _DIGEST.fullmatch(digest) else None
