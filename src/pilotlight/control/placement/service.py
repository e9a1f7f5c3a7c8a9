"""The Placement Service, in one process: credits and places out of memory alone.

Nothing here is stored (decision D8): after a restart frontends join again under new epochs and
workers still refuse the old ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pilotlight.control.placement.credits import AccountCredits
from pilotlight.control.placement.policies import Candidate, choose_worker
from pilotlight.kernel.service import every
from pilotlight.model.errors import IsolationMissing
from pilotlight.model.function import FunctionVersion, Isolation
from pilotlight.model.ids import EnvironmentId
from pilotlight.ports.ids import IdSource
from pilotlight.ports.placement import (
    CreditGrant,
    CreditHolder,
    NoCapacity,
    Placed,
    UnknownFrontend,
)
from pilotlight.ports.worker import WorkerLink


class PlacementService:
    """Grants credits and chooses workers.

    Args:
        workers: links to all workers; the sequence may change while the service lives.
        ids: source of environment identities.
        limit_of: credits of one kind, see `credit_limit`; it may change at any time.
        default_isolation: what a function without a wish of its own gets.
        charge_mib: memory an environment with this limit is charged with.
    """

    def __init__(
        self,
        workers: Sequence[WorkerLink],
        ids: IdSource,
        limit_of: Callable[[str], int],
        *,
        default_isolation: Isolation,
        charge_mib: Callable[[int], int],
    ) -> None:
        self._workers = workers
        self._ids = ids
        self._limit_of = limit_of
        self._default_isolation = default_isolation
        self._charge_mib = charge_mib
        self.name = "placement"
        self._epoch = 0
        self._dead: list[tuple[str, int]] = []
        self._live: dict[str, tuple[int, CreditHolder]] = {}
        self._accounts: dict[str, AccountCredits] = {}

    async def join(self, frontend: str, holder: CreditHolder) -> int:
        """Register a frontend; see `Placement`."""
        self._bury(frontend)
        self._epoch += 1
        self._live[frontend] = (self._epoch, holder)
        return self._epoch

    async def leave(self, frontend: str) -> None:
        """End a frontend's epoch; see `Placement`."""
        self._bury(frontend)
        await self.reclaim()

    async def credits(self, frontend: str, epoch: int, account: str, wanted: int) -> CreditGrant:
        """Grant credits; see `Placement`."""
        self._check(frontend, epoch)
        ledger = self._ledger(account)
        if ledger.free < wanted:
            await self._recall(frontend, account, wanted - ledger.free)
            self._check(frontend, epoch)
        given = ledger.take(_holder(frontend, epoch), wanted, self._live)
        return CreditGrant(account, given, epoch)

    async def place(self, frontend: str, epoch: int, function: FunctionVersion) -> Placed:
        """Choose a worker; see `Placement`."""
        self._check(frontend, epoch)
        wanted = function.isolation or self._default_isolation
        loads = [(link, link.load()) for link in self._workers]
        giving = [(link, load) for link, load in loads if wanted in load.isolations]
        if not giving:
            raise IsolationMissing(
                f"no worker gives isolation {wanted.value!r}, which function {function.name} asks "
                "for. `pilotlight doctor` says what a host is missing; isolation is never "
                "downgraded."
            )
        candidates = [
            Candidate(
                load,
                link.has_code(function.code.package),
                _siblings(link, function) if len(giving) > 1 else 0,
            )
            for link, load in giving
        ]
        worker = choose_worker(candidates, self._charge_mib(function.memory_mib))
        if worker is None:
            raise NoCapacity(
                f"no worker has memory for another environment of {function.memory_mib} MB "
                f"({len(giving)} asked)"
            )
        return Placed(EnvironmentId(self._ids.uuid().replace("-", "")), worker, epoch)

    async def run(self, ready: Callable[[], None]) -> None:
        """Keep credits within limits, and return those of dead epochs; until cancelled."""
        ready()
        await every(1.0, self._tend)

    async def _tend(self) -> None:
        await self.reclaim()
        await self.trim()

    async def trim(self) -> None:
        """Recall unused credits beyond limits that were lowered."""
        for name in list(self._accounts):
            excess = self._ledger(name).excess
            if excess:
                await self._recall("", name, excess)

    async def reclaim(self) -> None:
        """Release the credits of dead epochs, each once no worker runs anything of it."""
        while self._dead:
            frontend, epoch = self._dead[0]
            for link in self._workers:
                await link.fence(frontend, epoch + 1)
            for ledger in self._accounts.values():
                ledger.release(_holder(frontend, epoch))
            if (frontend, epoch) in self._dead:
                self._dead.remove((frontend, epoch))

    def held(self, account: str) -> int:
        """Credits of an account that are out, those of dead frontends included."""
        ledger = self._ledger(account)
        return ledger.limit - ledger.free

    def _check(self, frontend: str, epoch: int) -> None:
        known = self._live.get(frontend)
        if known is None or known[0] != epoch:
            raise UnknownFrontend(f"frontend {frontend} has no epoch {epoch}; it must join again")

    def _ledger(self, account: str) -> AccountCredits:
        ledger = self._accounts.get(account)
        if ledger is None:
            ledger = self._accounts[account] = AccountCredits(self._limit_of(account))
        ledger.limit = self._limit_of(account)
        return ledger

    async def _recall(self, asking: str, account: str, wanted: int) -> None:
        ledger = self._ledger(account)
        for frontend, (epoch, holder) in list(self._live.items()):
            held = ledger.held_by(_holder(frontend, epoch))
            if frontend == asking or not held:
                continue
            returned = await holder.recall(account, min(wanted, held))
            ledger.give_back(_holder(frontend, epoch), returned)
            wanted -= returned
            if wanted <= 0:
                return

    def _bury(self, frontend: str) -> None:
        former = self._live.pop(frontend, None)
        if former is not None:
            self._dead.append((frontend, former[0]))


def _holder(frontend: str, epoch: int) -> str:
    return f"{frontend}@{epoch}"


def _siblings(link: WorkerLink, function: FunctionVersion) -> int:
    names = (function.account, function.name, function.version)
    return sum((e.account, e.function, e.version) == names for e in link.environments())
