"""A dispatcher in virtual time over the real queue's code, whose power can fail at any commit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import sqlalchemy as sa

from pilotlight.events.dispatch import Dispatcher, DispatchSettings
from pilotlight.model.errors import PlatformError, Throttled
from pilotlight.model.events import DEFAULT_CONFIG, AsyncConfig, Event
from pilotlight.model.invocation import Invocation, InvocationReport, InvocationResult
from pilotlight.ports.clock import Clock
from pilotlight.ports.invoke import Done
from pilotlight.storage.database import Work
from pilotlight.storage.queue import QueueSettings, SqlEventQueue
from pilotlight.storage.queue_schema import upgrade
from pilotlight.testing.scripted import CountedIds, OneView

T = TypeVar("T")

ACCOUNT = "000000000000"


class PowerFailed(Exception):
    """The process is dead: nothing it does from now on has an effect."""


@dataclass(slots=True)
class PowerCut:
    """When the power fails: at a commit, counted from 0, before or after it became durable."""

    at: int
    is_after: bool


class InlineDatabase:
    """Runs the work of a `Database` at once, in memory: virtual time does not wait for threads.

    Args:
        disk: what an earlier process left; None for a new file.
        cut: when the power fails.
    """

    def __init__(self, disk: bytes | None = None, cut: PowerCut | None = None) -> None:
        self._driver = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if disk is not None:
            self._driver.deserialize(disk)
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: self._driver,
            poolclass=sa.pool.StaticPool,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
        )
        self._cut = cut
        self.failed = asyncio.Event()
        self.commits = 0
        self.is_full = False

    @property
    def disk(self) -> bytes:
        """What a power cut would leave now."""
        return self._driver.serialize()

    async def write(self, work: Work[T], *, frees: bool = False) -> T:
        """Run and commit."""
        del frees
        if self.failed.is_set():
            raise PowerFailed
        is_cut = self._cut is not None and self._cut.at == self.commits
        self.commits += 1
        if is_cut and self._cut is not None and not self._cut.is_after:
            self.failed.set()
            raise PowerFailed
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                result = work(connection)
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
        if is_cut:
            self.failed.set()
            raise PowerFailed
        await asyncio.sleep(0)
        return result

    async def read(self, work: Work[T]) -> T:
        """Run."""
        with self._engine.connect() as connection:
            return work(connection)

    def close(self) -> None:
        """Give up the memory."""
        self._engine.dispose()
        self._driver.close()


@dataclass(slots=True)
class Run:
    """One time that a function was run, or refused to be."""

    request_id: str
    function: str
    payload: bytes
    at_s: float


@dataclass(slots=True)
class ScriptedInvoker:
    """Runs events as their payloads say, and remembers it.

    Members of a payload: ``sleep`` seconds; ``fail`` how many first runs raise; ``throttle`` how
    many first tries are refused. ``caps`` limits how many events of a function run at a time.
    """

    clock: Clock
    runs: list[Run] = field(default_factory=list)
    refusals: list[Run] = field(default_factory=list)
    running: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    most: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    caps: dict[str, int] = field(default_factory=dict)
    fault: PlatformError | None = None
    tries: Counter[str] = field(default_factory=Counter)
    _by_id: defaultdict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))

    def submit(self, invocation: Invocation, done: Done) -> None:
        """See the port."""
        name, script = invocation.function.name, json.loads(invocation.payload)
        script = script if isinstance(script, dict) else {}
        run = Run(invocation.request_id, name, invocation.payload, self.clock.monotonic())
        tried = self.tries[run.request_id] - len(self.runs_of(run.request_id))
        self.tries[run.request_id] += 1
        is_capped = self.running[name] >= self.caps.get(name, 1_000_000)
        if is_capped or self.fault is not None or tried < script.get("throttle", 0):
            self.refusals.append(run)
            done(self.fault or Throttled("ConcurrentInvocationLimitExceeded"))
            return
        self.runs.append(run)
        self._by_id[run.request_id].append(run)
        self.running[name] += 1
        self.most[name] = max(self.most[name], self.running[name])
        asyncio.get_running_loop().call_later(
            script.get("sleep", 0.001), self._end, invocation, script, done
        )

    def _end(self, invocation: Invocation, script: dict[str, int], done: Done) -> None:
        self.running[invocation.function.name] -= 1
        ran = len(self.runs_of(invocation.request_id))
        fails = ran <= script.get("fail", 0)
        payload = b'{"errorType":"Boom","errorMessage":"it broke"}' if fails else b'{"ok":true}'
        report = InvocationReport(
            invocation.request_id, "e", invocation.function, 0.0, "success", 1.0, 1, None, 10
        )
        error = "Unhandled" if fails else None
        done(InvocationResult(payload, error, invocation.function.version, report))

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """See the port; nobody here waits for a result."""
        raise NotImplementedError

    async def drain(self, grace_s: float) -> None:
        """See the port."""
        del grace_s

    def runs_of(self, request_id: str) -> list[Run]:
        """The runs of one event."""
        return self._by_id[request_id]


@dataclass(slots=True)
class OneConfig:
    """Configurations by function; all others have the default."""

    known: dict[str, AsyncConfig] = field(default_factory=dict)

    def async_config(self, account: str, name: str, qualifier: str | None) -> AsyncConfig:
        """See the port."""
        del account, qualifier
        return self.known.get(name, DEFAULT_CONFIG)


@dataclass
class OneDispatcher:
    """What a test of asynchronous invocations needs; enter `running`.

    What outlives a power cut: the disk, the functions, and what the invoker remembers.
    """

    clock: Clock
    settings: DispatchSettings = field(default_factory=DispatchSettings)
    view: OneView = field(default_factory=OneView)
    configs: OneConfig = field(default_factory=OneConfig)
    ids: CountedIds = field(default_factory=CountedIds)
    chance: float = 0.0
    disk: bytes | None = None
    cut: PowerCut | None = None
    database: InlineDatabase = field(init=False)
    queue: SqlEventQueue = field(init=False)
    invoker: ScriptedInvoker = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    acknowledged: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.invoker = ScriptedInvoker(self.clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OneDispatcher]:
        """Start a process on what the disk has; on leaving it is killed."""
        self.database = InlineDatabase(self.disk, self.cut)
        try:
            await self.database.write(upgrade)
            self.queue = SqlEventQueue(self.database, self.clock, QueueSettings())
            await self.queue.recover()
            self.dispatcher = Dispatcher(
                self.queue, self.invoker, self.view, self.configs, self.clock, self.ids,
                lambda: self.chance, self.settings,
            )  # fmt: skip
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self.dispatcher.run(lambda: None))
                try:
                    yield self
                finally:
                    task.cancel()
        finally:
            self.disk = self.database.disk
            self.database.close()
            # A dead process hears nothing of what its functions answer.
            self.invoker = replace(self.invoker, running=defaultdict(int))

    async def accept(
        self,
        function: str,
        payload: object = None,
        *,
        account: str = ACCOUNT,
        qualifier: str | None = None,
    ) -> Event:
        """Send an event and wait for its acceptance.

        Raises:
            PlatformError: it was refused.
        """
        event = Event(
            request_id=self.ids.uuid(),
            account=account,
            region="us-east-1",
            function=function,
            qualifier=qualifier,
            payload=json.dumps(payload or {}).encode(),
            trace_id="",
            accepted_s=self.clock.wall(),
        )
        answer: asyncio.Future[PlatformError | None] = asyncio.get_running_loop().create_future()
        self.queue.accept(event, answer.set_result)
        error = await answer
        if error is not None:
            raise error
        self.acknowledged.append(event)
        return event

    async def until(self, condition: Callable[[], bool], within_s: float = 100_000) -> None:
        """Let virtual time pass until a condition holds or the power fails."""
        end_s = self.clock.monotonic() + within_s
        while not condition() and not self.database.failed.is_set():
            if self.clock.monotonic() >= end_s:
                raise TimeoutError(f"not within {within_s} s")
            await asyncio.sleep(0.05)

    async def settled(self, within_s: float = 100_000) -> None:
        """Let virtual time pass until no event waits, or the power fails."""
        end_s = self.clock.monotonic() + within_s
        while not self.database.failed.is_set() and (await self.queue.totals()).waiting:
            if self.clock.monotonic() >= end_s:
                raise TimeoutError(f"not within {within_s} s")
            await asyncio.sleep(10.0)
