"""Settings of the HTTP listeners. Every limit has a unit, a default and a reason."""

from __future__ import annotations

from dataclasses import dataclass

from pilotlight.dataplane.frontend.http.hosts import LOOPBACK_HOSTS


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits of one listener.

    Attributes:
        allowed_hosts: Host names answered to (any port); ``*.example.com`` admits every name below
            a domain and ``*`` all names. Protects browsers of this machine against DNS rebinding.
        max_connections: above it a new connection gets 503 and is closed.
        max_headers: header fields of one request.
        max_head_bytes: request target and header fields of one request together.
        max_queued: requests sent ahead on one connection (pipelining) before it is closed.
        head_timeout_s: from the first byte of a request to the end of its header.
        body_timeout_s: grace for a body; beyond it the body must have come at `min_rate_bytes_s`.
        idle_timeout_s: an unused connection is closed after it.
        write_timeout_s: the same grace for an answer the client does not read.
        min_rate_bytes_s: slowest acceptable client once a grace is over.
        linger_timeout_s: how long a refused upload is still read, so that its sender sees the
            answer instead of a reset connection.
        discard_bytes: most bytes of a refused upload that are read and thrown away.
        body_budget_bytes: memory for the bodies of all requests of this listener (decision D21).
        key_budget_bytes: the same for one access key or function URL.
        sweep_period_s: how often deadlines are looked at; they are late by at most this.
        drain_timeout_s: how long running requests may take once the server stops.
        backlog: connections the kernel holds until they are accepted.
    """

    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    max_connections: int = 10_000
    max_headers: int = 100
    max_head_bytes: int = 64 * 1024
    max_queued: int = 1024
    head_timeout_s: float = 20.0
    body_timeout_s: float = 20.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    min_rate_bytes_s: int = 16 * 1024
    linger_timeout_s: float = 5.0
    discard_bytes: int = 8 * 1024 * 1024
    body_budget_bytes: int = 512 * 1024 * 1024
    key_budget_bytes: int = 256 * 1024 * 1024
    sweep_period_s: float = 1.0
    drain_timeout_s: float = 30.0
    backlog: int = 2048
