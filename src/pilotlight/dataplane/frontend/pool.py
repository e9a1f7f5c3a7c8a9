"""Assignment: the environments of one function version that this frontend owns, and who waits.

A warm invocation is: take the environment used last, write a frame, hand over the answer. No task,
timer or future is made for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pilotlight.dataplane.frontend import refusals
from pilotlight.dataplane.frontend.admission import Account
from pilotlight.dataplane.frontend.policies import STUCK_MS, Burst, Pace, starts_needed
from pilotlight.dataplane.frontend.settings import FrontendSettings
from pilotlight.model.errors import PlatformError
from pilotlight.model.function import FunctionVersion
from pilotlight.model.invocation import Invocation, InvocationResult
from pilotlight.ports.clock import Clock
from pilotlight.ports.functions import Kept
from pilotlight.ports.invoke import Done, StreamTaker
from pilotlight.ports.telemetry import Telemetry
from pilotlight.ports.worker import EnvironmentHandle, StartFailure, StartFault

_INIT_FAILURE = "FUNCTION_ERROR_INIT_FAILURE"


class Waiting:
    """An invocation that waits for an environment."""

    __slots__ = ("attempts", "done", "invocation", "since_s")

    def __init__(self, invocation: Invocation, done: Done, since_s: float) -> None:
        self.invocation = invocation
        self.done = done
        self.since_s = since_s
        self.attempts = 0


class _Flow:
    """Takes credit back for the one invocation that streams; a `StreamFlow`."""

    __slots__ = ("_invocation", "_slot")

    def __init__(self, slot: Slot, invocation: Invocation) -> None:
        self._slot = slot
        self._invocation = invocation

    def taken(self, count: int) -> None:
        self._slot.credit(self._invocation, count)


class Slot:
    """One environment, as its owner sees it; an `EnvironmentOwner`.

    Attributes:
        bound: the one invocation that this environment was started for, when init is repeated
            inside it; None once it was sent or has ended.
        is_bound: it was started for one invocation.
        is_exclusive: nothing may be queued behind what runs.
        is_listed: the pool has it on its list of busy environments that may take more.
        since_s: monotonic time since which its oldest invocation runs.
    """

    __slots__ = (
        "_handle",
        "_is_following",
        "_pool",
        "_queue",
        "_taker",
        "bound",
        "is_bound",
        "is_exclusive",
        "is_listed",
        "since_s",
    )  # fmt: skip

    def __init__(self, pool: Pool, bound: Waiting | None = None) -> None:
        self._pool = pool
        self._handle: EnvironmentHandle | None = None
        self._queue: deque[tuple[Invocation, Done]] = deque()
        self.bound = bound
        self.is_bound = bound is not None
        self.is_exclusive = False
        self.is_listed = False
        self.since_s = 0.0
        self._is_following = False
        self._taker: StreamTaker | None = None

    @property
    def in_flight(self) -> int:
        """Invocations sent and not answered."""
        return len(self._queue)

    def send(self, invocation: Invocation, done: Done, waited_us: int) -> bool:
        """Send an invocation; False when the worker refused it."""
        handle = self._handle
        if handle is None:
            return False
        if not self._queue:
            self.since_s = self._pool.now_s()
        self._queue.append((invocation, done))
        if handle.invoke(self._pool.epoch, invocation, waited_us):
            self.is_exclusive = _wants_own(invocation)
            return True
        self._queue.pop()
        return False

    def retire(self) -> None:
        """End the environment once it is idle."""
        if self._handle is not None:
            self._handle.retire(self._pool.epoch)

    def ready(self, environment: EnvironmentHandle) -> None:
        """Init is done; see `EnvironmentOwner`."""
        self._handle = environment
        self._pool.started(self)

    def start_failed(self, failure: StartFailure) -> None:
        """It will never be ready; see `EnvironmentOwner`."""
        self._pool.start_failed(self, failure)

    def credit(self, invocation: Invocation, count: int) -> None:
        """Bytes of this invocation's stream were taken; nothing happens when it has ended."""
        if self._handle is not None and self._queue and self._queue[0][0] is invocation:
            self._handle.credit(self._pool.epoch, count)

    def stream_began(self, content_type: str) -> None:
        """The oldest invocation streams its answer; see `EnvironmentOwner`."""
        invocation, done = self._queue[0]
        if not isinstance(done, StreamTaker):
            raise TypeError("an invocation that wants a stream was submitted without a taker")
        self._taker = done
        done.began(content_type, _Flow(self, invocation))

    def streamed(self, chunk: bytes) -> None:
        """The next piece of its answer; see `EnvironmentOwner`."""
        if self._taker is not None:
            self._taker.chunk(chunk)

    def answered(self, result: InvocationResult, *, has_logged: bool) -> None:
        """The oldest invocation ended; see `EnvironmentOwner`."""
        self._taker = None
        if self._queue:
            _, done = self._queue.popleft()
        else:  # init failed inside the invocation that this environment was started for
            waiting, self.bound = self.bound, None
            if waiting is None:
                return
            done = waiting.done
        pool = self._pool
        pool.pace.saw(
            result.report.duration_ms, has_logged=has_logged, is_follower=self._is_following
        )
        pool.account.running -= 1
        self._is_following = bool(self._queue)
        if not self._queue:
            if self._handle is not None:
                pool.offer(self)
        elif pool.pace.depth > 1:
            self.since_s = pool.now_s()
            pool.refill(self)
        done(result)

    def lost(self) -> None:
        """It is gone; what it had not begun goes elsewhere; see `EnvironmentOwner`."""
        queue, self._queue = self._queue, deque()
        self._handle = None
        self._pool.lost(self, queue)


class Pool:
    """All environments of one function version in this frontend.

    Attributes:
        function: the version; its identity never changes, an update makes a new pool.
        epoch: the frontend's epoch.
        now_s: reads the monotonic clock.
        keep: environments to keep ready, called or not (provisioned concurrency).
        is_retired: an update or a deletion replaced the version: what waits is still served,
            and every environment ends as soon as nothing does.
    """

    def __init__(
        self,
        function: FunctionVersion,
        account: Account,
        epoch: int,
        *,
        clock: Clock,
        telemetry: Telemetry,
        settings: FrontendSettings,
        start: Callable[[Pool, Slot], None],
    ) -> None:
        self.function = function
        self.account = account
        self.epoch = epoch
        self.pace = Pace(settings.prefetch_depth)
        self.keep = 0
        self.is_retired = False
        self.used_s = clock.monotonic()
        self.now_s = clock.monotonic
        self._telemetry = telemetry
        self._settings = settings
        self._start = start
        self._burst = Burst(settings.burst, settings.burst_window_s)
        self._idle: list[Slot] = []
        self._ready: set[Slot] = set()
        self._shared: deque[Slot] = deque()
        self._waiters: deque[Waiting] = deque()
        self._starting = 0
        self._starting_bound = 0
        self._blocked_until_s = 0.0
        self._why_blocked = ""
        self._keep_after_s = 0.0
        self._keep_failure: str | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing is owned, awaited or wanted."""
        return not (
            self._ready or self._starting or self._starting_bound or self._waiters or self.keep
        )

    @property
    def kept(self) -> Kept:
        """What is ready of the environments to keep."""
        allocated = min(len(self._ready), self.keep)
        return Kept(allocated, min(len(self._idle), allocated), self._keep_failure)

    @property
    def waiting(self) -> int:
        """Invocations that wait for an environment."""
        return len(self._waiters)

    def submit(self, invocation: Invocation, done: Done) -> None:
        """Run an admitted invocation; its credit is returned when it has ended.

        An idle environment takes it, unless the function is fast and as many environments run as
        there are CPUs: then it is queued behind a run, which spares waking another process.
        """
        idle, is_fast = self._idle, self.pace.depth > 1
        if (
            is_fast
            and len(self._ready) - len(idle) >= self._settings.side_by_side
            and self._queue_behind(invocation, done)
        ):
            return
        while idle:
            slot = idle.pop()
            if slot.send(invocation, done, 0):
                if is_fast:
                    self._list(slot)
                return
        if is_fast and self._queue_behind(invocation, done):
            return
        if len(self._waiters) >= self._settings.max_waiters:
            self.account.running -= 1
            self._telemetry.throttled(self.function, "TooManyWaiters")
            done(refusals.throttled())
            return
        self._wait(Waiting(invocation, done, self.now_s()))
        self.start_needed()

    def offer(self, slot: Slot) -> None:
        """An environment has nothing to do: give it what waits, or keep it."""
        if not self.refill(slot) or slot.in_flight:
            return
        if self.is_retired:
            slot.retire()
        else:
            self._idle.append(slot)

    def refill(self, slot: Slot) -> bool:
        """Send what waits, as deep as the handler's pace allows; False when the worker refused."""
        while self._waiters and slot.in_flight < self.pace.depth:
            waiting = self._waiters[0]
            if slot.in_flight and (slot.is_exclusive or _wants_own(waiting.invocation)):
                break
            if not slot.send(waiting.invocation, waiting.done, self._waited_us(waiting)):
                return False
            self._waiters.popleft()
            self._telemetry.waiters(-1)
        if 0 < slot.in_flight < self.pace.depth:
            self._list(slot)
        return True

    def started(self, slot: Slot) -> None:
        """An environment is ready."""
        self._ended_start(slot)
        self._keep_failure = None
        self._ready.add(slot)
        waiting, slot.bound = slot.bound, None
        if waiting is None:
            self.offer(slot)
        elif not slot.send(waiting.invocation, waiting.done, self._waited_us(waiting)):
            self._wait(waiting, first=True)

    def start_failed(self, slot: Slot, failure: StartFailure) -> None:
        """An environment will never be ready: decide about the invocation that waited longest."""
        self._ended_start(slot)
        waiting, slot.bound = slot.bound, None
        if failure.fault is StartFault.CAPACITY:
            self._blocked_until_s = self.now_s() + self._settings.capacity_retry_s
            self._why_blocked = str(failure.error)
            if waiting is not None:
                self._wait(waiting, first=True)
            return
        if not slot.is_bound and self._waiters:
            waiting = self._waiters.popleft()
            self._telemetry.waiters(-1)
        if waiting is not None:
            self._after_failure(waiting, failure)
        elif self.keep:
            is_own = failure.fault is StartFault.INIT
            self._keep_failure = _INIT_FAILURE if is_own else str(failure.error)
            self._keep_after_s = self.now_s() + self._settings.keep_retry_s
        self.start_needed()

    def lost(self, slot: Slot, unanswered: deque[tuple[Invocation, Done]]) -> None:
        """An environment is gone; its unanswered invocations never began and are sent again."""
        self._ready.discard(slot)
        if slot in self._idle:
            self._idle.remove(slot)
        now_s = self.now_s()
        for invocation, done in reversed(unanswered):
            self._wait(Waiting(invocation, done, now_s), first=True)
        while self._idle and self._waiters:
            self.offer(self._idle.pop())
        self.start_needed()

    def start_needed(self) -> None:
        """Start environments for those who wait, within the burst rule."""
        wanted = starts_needed(len(self._waiters), self._starting, self.pace.depth)
        if not wanted:
            return
        now_s = self.now_s()
        if now_s < self._blocked_until_s:
            return
        for _ in range(self._burst.take(wanted, now_s)):
            self._begin(Slot(self))

    def sweep(self, now_s: float) -> None:
        """End waits that are over, and try again what was blocked."""
        budget_s = self._settings.wait_budget_s
        while self._waiters and now_s - self._waiters[0].since_s > budget_s:
            waiting = self._waiters.popleft()
            self._telemetry.waiters(-1)
            self._telemetry.platform_failure("frontend", "wait")
            error = refusals.waited_too_long(self.function, budget_s, self._why_blocked)
            self._refuse(waiting, error)
        self.start_needed()
        self._start_kept(now_s)
        if not self.is_empty:
            self.used_s = now_s

    def _start_kept(self, now_s: float) -> None:
        """Start what is missing of the environments to keep, within the burst rule."""
        missing = self.keep - len(self._ready) - self._starting - self._starting_bound
        if (
            missing <= 0
            or self.is_retired
            or now_s < max(self._keep_after_s, self._blocked_until_s)
        ):
            return
        for _ in range(self._burst.take(missing, now_s)):
            self._begin(Slot(self))

    def retire(self) -> None:
        """End every environment as it becomes idle; what waits is still served."""
        self.is_retired = True
        self.keep = 0
        idle, self._idle = self._idle, []
        for slot in idle:
            slot.retire()

    def abandon(self, error: PlatformError) -> None:
        """Answer everyone who waits with an error: the frontend ends."""
        while self._waiters:
            waiting = self._waiters.popleft()
            self._telemetry.waiters(-1)
            self._refuse(waiting, error)

    def _queue_behind(self, invocation: Invocation, done: Done) -> bool:
        """Queue in a busy environment, if its runs are fast and it has a place."""
        if _wants_own(invocation) or self._waiters:
            return False
        shared, depth = self._shared, self.pace.depth
        stuck_s = self.now_s() - STUCK_MS / 1000
        while shared:  # each in turn, so that all are equally deep
            slot = shared[0]
            if not 0 < slot.in_flight < depth or slot.is_exclusive:
                self._unlist()
            elif slot.since_s < stuck_s:
                return False  # a run takes long: maybe all do from now on
            else:
                self._unlist()
                if slot.send(invocation, done, 0):
                    if slot.in_flight < depth:
                        self._list(slot)
                    return True
        return False

    def _unlist(self) -> None:
        self._shared.popleft().is_listed = False

    def _list(self, slot: Slot) -> None:
        """Keep a busy environment in mind for `_queue_behind`, which looks again."""
        if not slot.is_listed:
            slot.is_listed = True
            self._shared.append(slot)

    def _after_failure(self, waiting: Waiting, failure: StartFailure) -> None:
        if failure.fault is StartFault.INIT and failure.is_retryable:
            self._begin(Slot(self, waiting))
            return
        waiting.attempts += 1
        if failure.is_retryable and waiting.attempts < self._settings.start_attempts:
            self._wait(waiting, first=True)
            return
        self._telemetry.platform_failure("worker", failure.fault.value)
        self._refuse(waiting, failure.error)

    def _begin(self, slot: Slot) -> None:
        if slot.is_bound:
            self._starting_bound += 1
        else:
            self._starting += 1
        self._start(self, slot)

    def _ended_start(self, slot: Slot) -> None:
        if slot.is_bound:
            self._starting_bound -= 1
        else:
            self._starting -= 1

    def _wait(self, waiting: Waiting, *, first: bool = False) -> None:
        if first:
            self._waiters.appendleft(waiting)
        else:
            self._waiters.append(waiting)
        self._telemetry.waiters(1)

    def _refuse(self, waiting: Waiting, error: PlatformError) -> None:
        self.account.running -= 1
        waiting.done(error)

    def _waited_us(self, waiting: Waiting) -> int:
        return max(1, int((self.now_s() - waiting.since_s) * 1e6))


def _wants_own(invocation: Invocation) -> bool:
    """Whether it may not be queued behind a run: its log has borders, or its answer takes time."""
    return invocation.wants_log or invocation.wants_stream
