"""When a client is too slow. Pure decisions; one coarse sweep asks them for all connections."""

from __future__ import annotations

from enum import IntEnum

from pilotlight.dataplane.frontend.http.settings import HttpSettings


class Phase(IntEnum):
    """What a connection waits for on its reading side."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    LINGER = 3
    CLOSING = 4


class Verdict(IntEnum):
    """What the sweep does with a connection."""

    KEEP = 0
    CLOSE = 1
    REFUSE = 2
    ABORT = 3


def transfer_is_late(elapsed_s: float, moved_bytes: int, grace_s: float, rate_bytes_s: int) -> bool:
    """Whether a transfer is slower than ``rate_bytes_s`` after a grace.

    Example: 20 s of grace and 16 KiB/s: after 30 s at least 160 KiB must have moved.
    """
    return elapsed_s > grace_s + moved_bytes / rate_bytes_s


def verdict(
    phase: Phase, elapsed_s: float, body_bytes: int, settings: HttpSettings, *, is_busy: bool
) -> Verdict:
    """Judge the reading side of a connection.

    Args:
        phase: what it waits for.
        elapsed_s: how long it has been in this phase.
        body_bytes: bytes of the current body so far.
        settings: the limits.
        is_busy: a request of it is being answered; nothing is expected of the client then.
    """
    match phase:
        case Phase.IDLE:
            late = not is_busy and elapsed_s > settings.idle_timeout_s
            return Verdict.CLOSE if late else Verdict.KEEP
        case Phase.HEAD:
            return Verdict.REFUSE if elapsed_s > settings.head_timeout_s else Verdict.KEEP
        case Phase.BODY:
            late = transfer_is_late(
                elapsed_s, body_bytes, settings.body_timeout_s, settings.min_rate_bytes_s
            )
            return Verdict.REFUSE if late else Verdict.KEEP
        case Phase.LINGER:
            return Verdict.ABORT if elapsed_s > settings.linger_timeout_s else Verdict.KEEP
        case Phase.CLOSING:
            return Verdict.KEEP
