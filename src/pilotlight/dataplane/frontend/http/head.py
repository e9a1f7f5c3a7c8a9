"""The head of a request: what is read from it once, and which heads are refused.

The parser (llhttp, strict) already refuses what is malformed: Transfer-Encoding together with
Content-Length, repeated or signed Content-Length, bare line feeds, folded fields, blanks before a
colon. Here is what it lets pass and two parties could still read differently (RFC 9112, section
11.2), and what we do not offer.
"""

from __future__ import annotations

from pilotlight.dataplane.frontend.http.hosts import HostList

_WATCHED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


class Refused(Exception):
    """A request that is not processed: it is answered with this status and code, then closed."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class RequestHead:
    """One request's head. Not a frozen dataclass only because one is made for each request.

    Attributes:
        method: upper case.
        path: as received, still percent-encoded, without the query.
        query: as received, without ``?``.
        version: ``1.0`` or ``1.1``.
        headers: (lower-case name, value) in order.
        host: value of the one Host header.
        content_length: None when the body is chunked; 0 when there is none.
        keep_alive: the connection may serve another request afterwards.
        expects_continue: the client waits for ``100 Continue`` before it sends the body.
        client: address and port of the peer.
        is_repeated: the connection has sent this head before; then it is the same object.
        memo: what the route keeps with a repeated head.
    """

    __slots__ = (
        "client",
        "content_length",
        "expects_continue",
        "headers",
        "host",
        "is_repeated",
        "keep_alive",
        "memo",
        "method",
        "path",
        "query",
        "version",
    )

    def __init__(
        self, method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.method = method
        self.version = version
        self.headers = headers
        self.path, _, self.query = target.partition(b"?")
        self.host = b""
        self.content_length: int | None = 0
        self.keep_alive = version == "1.1"
        self.expects_continue = False
        self.client: tuple[str, int] | None = None
        self.is_repeated = False
        self.memo: object = None

    def header(self, name: bytes) -> bytes | None:
        """First value of a header (lower-case name), or None."""
        for field, value in self.headers:
            if field == name:
                return value
        return None


def check_head(head: RequestHead, hosts: HostList) -> None:
    """Fill in what frames the body, and refuse heads that are ambiguous or not for us.

    Raises:
        Refused: with the status, the reason and what to do.
    """
    if head.version not in {"1.0", "1.1"}:
        raise Refused(505, "HTTPVersionNotSupported", "Only HTTP/1.0 and HTTP/1.1 are served.")
    if not head.path.startswith(b"/") and not (head.path == b"*" and head.method == b"OPTIONS"):
        raise Refused(
            400, "InvalidRequestTarget", "The request target must be a path that starts with '/'."
        )
    hosts_named = 0
    for name, value in head.headers:
        if name not in _WATCHED:
            continue
        if name == b"host":
            head.host = value
            hosts_named += 1
        else:
            _read_framing(head, name, value)
    if hosts_named != 1:
        raise Refused(400, "InvalidHost", f"Exactly one Host header is needed, not {hosts_named}.")
    if not hosts.admits(head.host):
        shown = head.host[:100].decode("ascii", "replace")
        raise Refused(
            421,
            "HostNotAllowed",
            f"This server does not answer to the Host {shown!r}. Use an allowed name such as"
            " localhost, or add this one to the setting allowed_hosts"
            " (PILOTLIGHT_ALLOWED_HOSTS).",
        )


def _read_framing(head: RequestHead, name: bytes, value: bytes) -> None:
    if name == b"content-length":
        # The parser admits one field, digits only; int() cannot fail on that.
        head.content_length = int(value)
    elif name == b"transfer-encoding":
        if head.version == "1.0":
            raise Refused(400, "InvalidFraming", "HTTP/1.0 has no Transfer-Encoding.")
        if value.lower() != b"chunked":
            raise Refused(501, "InvalidFraming", "The only Transfer-Encoding is 'chunked'.")
        head.content_length = None
    else:
        if value.lower() != b"100-continue":
            raise Refused(417, "ExpectationFailed", "The only Expect is '100-continue'.")
        head.expects_continue = head.version == "1.1"
