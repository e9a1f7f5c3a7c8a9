"""The frontend: admits invocations and assigns them to environments it owns.

Nothing here queries a database or another process for a warm invocation (decisions D6 to D8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from pilotlight.dataplane.frontend import refusals
from pilotlight.dataplane.frontend.admission import Account
from pilotlight.dataplane.frontend.pool import Pool, Slot
from pilotlight.dataplane.frontend.settings import FrontendSettings
from pilotlight.kernel.service import every
from pilotlight.model.errors import IsolationMissing, PlatformError
from pilotlight.model.function import FunctionState, FunctionVersion
from pilotlight.model.invocation import Invocation, InvocationResult
from pilotlight.ports.clock import Clock
from pilotlight.ports.functions import Kept, ServingView
from pilotlight.ports.invoke import Done
from pilotlight.ports.placement import NoCapacity, Placement, UnknownFrontend
from pilotlight.ports.telemetry import Telemetry
from pilotlight.ports.worker import (
    EnvironmentOrder,
    EnvironmentStatus,
    StartFailure,
    StartFault,
    WorkerLink,
)

_DRAIN_POLL_S = 0.01
_ACTIVE = FunctionState.ACTIVE  # a name of our own: an enumeration looks its members up slowly


class FrontendInvoker:
    """An `Invoker`, a `CreditHolder` and a `Part`.

    Args:
        view: this frontend's copy of the registry.
        placement: the Placement Service.
        workers: links to workers, by name.
    """

    def __init__(
        self,
        view: ServingView,
        placement: Placement,
        workers: Mapping[str, WorkerLink],
        telemetry: Telemetry,
        clock: Clock,
        settings: FrontendSettings,
    ) -> None:
        self.name = "frontend"
        self._view = view
        self._placement = placement
        self._workers = workers
        self._telemetry = telemetry
        self._clock = clock
        self._settings = settings
        self._group: asyncio.TaskGroup | None = None
        self._epoch = 0
        self._has_epoch = True
        self._is_draining = False
        self._seen_revision = -1
        self._accounts: dict[str, Account] = {}
        self._pools: dict[tuple[str, str, str, str], Pool] = {}
        self._old_pools: list[Pool] = []

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled."""
        self._epoch = await self._placement.join(self._settings.frontend, self)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready()
                await every(self._settings.sweep_s, self._sweep)
        finally:
            self._group = None
            self._abandon()

    def submit(self, invocation: Invocation, done: Done) -> None:
        """Run an invocation; see `Invoker`."""
        function = invocation.function
        if function.state is not _ACTIVE:
            done(refusals.not_active(function))
            return
        if self._is_draining or self._group is None:
            done(refusals.draining())
            return
        reservations = self._view.reservations
        reserved = reservations.get((function.account, function.name)) if reservations else None
        account = self._credits_of(function, is_reserved=reserved is not None)
        if reserved is not None and account.running >= reserved:
            self._throttle(account, function, done)  # also before placement knows a lower limit
            return
        if account.running >= account.held:
            self._admit_later(account, invocation, done)
            return
        account.running += 1
        pool = self._pools.get(function.identity)
        if pool is None or pool.account is not account:
            pool = self._open_pool(function, account)
        pool.submit(invocation, done)

    def _credits_of(self, function: FunctionVersion, *, is_reserved: bool) -> Account:
        name: str = function.account
        if is_reserved:
            name = f"{name}/{function.name}"
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(name)
        return account

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """Run an invocation and wait for it; see `Invoker`."""
        answer: asyncio.Future[InvocationResult | PlatformError]
        answer = asyncio.get_running_loop().create_future()

        def done(result: InvocationResult | PlatformError) -> None:
            if not answer.done():  # the caller may have gone
                answer.set_result(result)

        self.submit(invocation, done)
        result = await answer
        if isinstance(result, PlatformError):
            raise result
        return result

    async def drain(self, grace_s: float) -> None:
        """Refuse what is new; return when all has ended, at the latest after the grace."""
        self._is_draining = True
        until_s = self._clock.monotonic() + grace_s
        # Polled, because a hook on every invocation's end would cost each of them.
        while self.running and self._clock.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_S)

    async def recall(self, account: str, wanted: int) -> int:
        """Give unused credits back; see `CreditHolder`."""
        known = self._accounts.get(account)
        return 0 if known is None else known.give_back(wanted)

    @property
    def running(self) -> int:
        """Invocations admitted and not ended."""
        return sum(a.running + len(a.pending) for a in self._accounts.values())

    def environments(self) -> tuple[EnvironmentStatus, ...]:
        """All environments of all workers, for people."""
        return tuple(e for link in self._workers.values() for e in link.environments())

    def _abandon(self) -> None:
        """Answer whoever still waits: nobody will serve them."""
        for account in self._accounts.values():
            self._refuse_pending(account, refusals.draining())
        for pool in [*self._pools.values(), *self._old_pools]:
            pool.abandon(refusals.draining())

    # Admission beyond the credits held.

    def _admit_later(self, account: Account, invocation: Invocation, done: Done) -> None:
        if self._clock.monotonic() < account.refused_until_s:
            self._throttle(account, invocation.function, done)
            return
        if len(account.pending) >= self._settings.max_waiters:
            self._throttle(account, invocation.function, done)
            return
        account.pending.append((invocation, done))
        if not account.asking and self._group is not None:
            account.asking = True
            self._group.create_task(self._ask(account), name=f"credits of {account.name}")

    async def _ask(self, account: Account) -> None:
        """Ask placement for credits until all that waited are admitted or refused."""
        try:
            while account.pending:
                wanted = len(account.pending)
                grant = await self._placement.credits(
                    self._settings.frontend, self._epoch, account.name, wanted
                )
                account.held += grant.credits
                self._admit_pending(account)
                if grant.credits < wanted:
                    account.refused_until_s = self._clock.monotonic() + self._settings.refusal_s
                    self._refuse_pending(account, None)
        except PlatformError as error:
            self._placement_failed(error)
            self._refuse_pending(account, error)
        finally:
            account.asking = False

    def _placement_failed(self, error: PlatformError) -> None:
        self._telemetry.platform_failure("placement", type(error).__name__)
        if isinstance(error, UnknownFrontend):
            self._has_epoch = False

    async def _rejoin(self) -> None:
        """Begin a new epoch: credits and environments of the old one are no longer ours.

        Invocations that still run keep counting here until they end, so caps hold; the refusal
        of a new one may be early.
        """
        self._epoch = await self._placement.join(self._settings.frontend, self)
        self._has_epoch = True
        for account in self._accounts.values():
            account.held = 0
        for identity, pool in list(self._pools.items()):
            pool.retire()
            self._old_pools.append(self._pools.pop(identity))

    def _admit_pending(self, account: Account) -> None:
        while account.pending and account.running < account.held:
            invocation, done = account.pending.popleft()
            self.submit(invocation, done)

    def _refuse_pending(self, account: Account, error: PlatformError | None) -> None:
        while account.pending:
            invocation, done = account.pending.popleft()
            if error is None:
                self._throttle(account, invocation.function, done)
            else:
                done(error)

    def _throttle(self, account: Account, function: FunctionVersion, done: Done) -> None:
        reason = refusals.RESERVED if account.is_reserved else refusals.CONCURRENCY
        self._telemetry.throttled(function, reason)
        done(refusals.throttled(reason))

    # Pools.

    def _open_pool(self, function: FunctionVersion, account: Account) -> Pool:
        former = self._pools.pop(function.identity, None)
        if former is not None:  # its credits are of another kind: what runs returns them there
            former.retire()
            self._old_pools.append(former)
        pool = Pool(
            function,
            account,
            self._epoch,
            clock=self._clock,
            telemetry=self._telemetry,
            settings=self._settings,
            start=self._start,
        )
        self._pools[function.identity] = pool
        self._retire_outdated()
        return pool

    def _retire_outdated(self) -> None:
        """Retire the environments of versions that the view no longer names."""
        for identity, pool in self._pools.items():
            account, name, version, _ = identity
            current = self._view.resolve(account, name, version)
            if not pool.is_retired and (current is None or current.function.identity != identity):
                pool.retire()

    def kept(self, account: str, name: str, version: str) -> Kept:
        """What is ready of the environments to keep for a version."""
        resolved = self._view.resolve(account, name, version)
        pool = None if resolved is None else self._pools.get(resolved.function.identity)
        return Kept() if pool is None else pool.kept

    def _keep_ready(self) -> None:
        """Tell pools how many environments to keep; open those that nobody has called yet."""
        wanted: dict[tuple[str, str, str, str], int] = {}
        for (account, name, version), count in self._view.provisioned.items():
            resolved = self._view.resolve(account, name, version)
            if resolved is None or resolved.function.state is not _ACTIVE:
                continue
            function = resolved.function
            wanted[function.identity] = count
            if function.identity not in self._pools:
                reserved = (account, name) in self._view.reservations
                self._open_pool(function, self._credits_of(function, is_reserved=reserved))
        for identity, pool in self._pools.items():
            pool.keep = wanted.get(identity, 0)

    async def _sweep(self) -> None:
        if not self._has_epoch:
            await self._rejoin()
        now_s = self._clock.monotonic()
        if self._view.revision != self._seen_revision:
            self._seen_revision = self._view.revision
            self._retire_outdated()
        self._keep_ready()
        for identity, pool in list(self._pools.items()):
            pool.sweep(now_s)
            is_old = pool.is_retired or now_s - pool.used_s > self._settings.empty_pool_s
            if pool.is_empty and is_old:
                del self._pools[identity]
        for pool in self._old_pools:
            pool.sweep(now_s)
        self._old_pools = [pool for pool in self._old_pools if not pool.is_empty]

    # Cold starts.

    def _start(self, pool: Pool, slot: Slot) -> None:
        if self._group is None:
            slot.start_failed(StartFailure(StartFault.STALE, refusals.draining()))
            return
        self._group.create_task(self._place(pool, slot), name="place")

    async def _place(self, pool: Pool, slot: Slot) -> None:
        began_s = self._clock.monotonic()
        function = pool.function
        try:
            placed = await self._placement.place(self._settings.frontend, pool.epoch, function)
        except NoCapacity as error:
            slot.start_failed(StartFailure(StartFault.CAPACITY, error, is_retryable=True))
            return
        except IsolationMissing as error:
            slot.start_failed(StartFailure(StartFault.ISOLATION, error))
            return
        except PlatformError as error:
            self._placement_failed(error)
            slot.start_failed(StartFailure(StartFault.STALE, error, is_retryable=True))
            return
        order = EnvironmentOrder(
            id=placed.environment,
            function=function,
            frontend=self._settings.frontend,
            epoch=placed.epoch,
            invocation=slot.bound.invocation if slot.bound is not None else None,
            placement_us=int((self._clock.monotonic() - began_s) * 1e6),
        )
        self._workers[placed.worker].start(order, slot)
