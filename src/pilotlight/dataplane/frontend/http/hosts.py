"""Which Host names a listener answers to: protection against DNS rebinding and mix-ups.

A page on the Internet can let its own name resolve to 127.0.0.1 and so make a visitor's browser
send requests to us; they carry the page's name as Host, which is not on the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LOOPBACK_HOSTS = ("localhost", "*.localhost", "127.0.0.1", "[::1]")
_CACHE_SIZE = 1024


def host_name(host: bytes) -> str | None:
    """The name of a Host header, lower case and without its port; None when it is malformed.

    Example: ``LocalHost:9700`` gives ``localhost``; ``[::1]:9700`` gives ``[::1]``.
    """
    try:
        text = host.decode("ascii").lower()
    except UnicodeDecodeError:
        return None
    if text.startswith("["):
        name, bracket, port = text.partition("]")
        name += bracket
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = text.partition(":")
    if not name or (port and not port.isdecimal()):
        return None
    if any(character in name for character in " \t/@\\,;?#"):
        return None
    return name.removesuffix(".")


class HostList:
    """An allow-list of host names. Decisions are remembered: the header is the same all day.

    Args:
        allowed: lower-case names; ``*`` stands for one or more characters, so ``*.example.com``
            admits every name below a domain, and a lone ``*`` every name.
    """

    __slots__ = ("_known", "_pattern")

    def __init__(self, allowed: Iterable[str]) -> None:
        patterns = (re.escape(pattern.lower()).replace(r"\*", ".+") for pattern in allowed)
        self._pattern = re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or "(?!)")
        self._known: dict[bytes, bool] = {}

    def admits(self, host: bytes) -> bool:
        """Whether a request with this Host header is answered."""
        known = self._known.get(host)
        if known is None:
            name = host_name(host)
            known = name is not None and self._pattern.fullmatch(name) is not None
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[host] = known
        return known
