"""Which function URL a request means: by its host or by its path."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from pilotlight.dataplane.frontend.http.hosts import host_name

_HOST = re.compile(r"(?P<id>[a-z0-9]{1,64})\.lambda-url\.[a-z0-9.-]+")
_PATH_PREFIX = b"/url/"
_ID = re.compile(rb"[a-zA-Z0-9]{1,64}")


class Target(NamedTuple):
    """A function URL and the path below it.

    Attributes:
        url_id: lower case.
        path: as received, without the ``/url/<id>`` of the path form; starts with ``/``.
        domain: host name as the client used it, without the port.
    """

    url_id: str
    path: bytes
    domain: str


def by_host(host: bytes) -> tuple[str | None, str]:
    """URL id and domain name of a Host header; the id is None on an ordinary name."""
    name = host_name(host) or ""
    match = _HOST.fullmatch(name)
    return (match["id"] if match is not None else None), name


def by_path(path: bytes) -> tuple[str, bytes] | None:
    """URL id and remaining path of ``/url/<id>/rest``; None for any other path.

    Example: ``/url/abc/x/y`` gives ``("abc", b"/x/y")`` and ``/url/abc`` gives ``("abc", b"/")``.
    """
    if not path.startswith(_PATH_PREFIX):
        return None
    url_id, _, rest = path[len(_PATH_PREFIX) :].partition(b"/")
    name = _id_text(url_id)
    return None if name is None else (name, b"/" + rest)


@functools.lru_cache(maxsize=4096)
def _id_text(url_id: bytes) -> str | None:
    return url_id.decode("ascii").lower() if _ID.fullmatch(url_id) is not None else None
