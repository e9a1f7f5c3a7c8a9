"""What frontends ask of placement: concurrency credits and places for environments (D7).

Credits and ownership are apart. A credit is the right to have one invocation in flight; the sum of
all credits of an account never exceeds its limit, so caps hold with any number of frontends and
without placement. An environment is placed on a worker and owned by one frontend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pilotlight.model.errors import PlatformError
from pilotlight.model.function import FunctionVersion
from pilotlight.model.ids import EnvironmentId


class NoCapacity(PlatformError):
    """No worker can take another environment now; one that ends makes room."""

    code = "ServiceException"
    http_status = 503
    retryable = True


class UnknownFrontend(PlatformError):
    """A frontend that placement does not know, or knows under a newer epoch."""

    code = "ServiceException"
    http_status = 503
    retryable = True


@dataclass(frozen=True, slots=True)
class CreditGrant:
    """Credits a frontend gets in addition to those it holds; 0 when the account has none left."""

    account: str
    credits: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a new environment goes, under which identity and epoch."""

    environment: EnvironmentId
    worker: str
    epoch: int


class CreditHolder(Protocol):
    """A frontend, as placement reaches it."""

    async def recall(self, account: str, wanted: int) -> int:
        """Give back up to ``wanted`` unused credits; returns how many. They are gone at once."""
        ...


class Placement(Protocol):
    """The Placement Service."""

    async def join(self, frontend: str, holder: CreditHolder) -> int:
        """Register a frontend and return its epoch; a second call fences the first one's work."""
        ...

    async def leave(self, frontend: str) -> None:
        """End a frontend's epoch.

        Its credits return only when every worker has confirmed that its invocations ended.
        """
        ...

    async def credits(self, frontend: str, epoch: int, account: str, wanted: int) -> CreditGrant:
        """Grant at least ``wanted`` credits if the account has them, else what there is.

        ``account`` is the name of an account, for what its functions share, or
        ``account/function`` for what a function has reserved.

        Unused credits of other frontends are recalled before an answer falls short.

        Raises:
            UnknownFrontend: the epoch is over.
        """
        ...

    async def place(self, frontend: str, epoch: int, function: FunctionVersion) -> Placed:
        """Choose a worker for a new environment.

        Raises:
            NoCapacity: no worker can take it now.
            IsolationMissing: no worker gives the isolation the function asks for.
            UnknownFrontend: the epoch is over.
        """
        ...
