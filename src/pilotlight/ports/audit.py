"""Who called the control plane, for what, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call of the control plane. It never holds parameters, bodies, tokens or signatures.

    Attributes:
        wall_s: when it was answered, in seconds since the epoch.
        account: of the caller; "" where nobody was proven.
        principal: ARN of the caller; "" where nobody was proven.
        access_key: id of the key that signed, or that was claimed; "" without any.
        is_proven: the signature or token was right.
        source: address the request came from.
        service: protocol, such as ``lambda``; ``pilotlight`` for the native API.
        operation: of the service; method and path where there is none.
        resource: what the call named, as the caller wrote it.
        status: of the HTTP answer.
        error_code: "" where the call succeeded.
    """

    wall_s: float
    request_id: str
    account: str
    principal: str
    access_key: str
    is_proven: bool
    source: str
    service: str
    operation: str
    resource: str
    status: int
    error_code: str


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with the number that orders it."""

    id: int
    entry: AuditEntry


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What to read, oldest first. Times are seconds since the epoch, inclusive start, exclusive end.

    Attributes:
        account: None for all.
        after_id: only entries stored after this one, for following; 0 from the start.
    """

    account: str | None = None
    access_key: str | None = None
    operation: str | None = None
    request_id: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    after_id: int = 0
    limit: int = 1000


class AuditLog(Protocol):
    """Keeps entries. What `record` took is stored soon, and surely before an orderly end."""

    def require(self) -> None:
        """Ask for room before a call changes anything.

        Raises:
            StorageFull: entries cannot be stored at the moment; the call must not happen.
        """
        ...

    def record(self, entry: AuditEntry) -> None:
        """Take an entry; never waits. Without room it is counted as lost and the count stored."""
        ...

    async def read(self, query: AuditQuery) -> Sequence[StoredEntry]:
        """Read what is stored, entries just recorded included."""
        ...


class NoAudit(AuditLog):
    """Keeps nothing."""

    def require(self) -> None:
        """See the port."""

    def record(self, entry: AuditEntry) -> None:
        """See the port."""

    async def read(self, query: AuditQuery) -> Sequence[StoredEntry]:  # noqa: ARG002
        """See the port."""
        return ()
