"""Tries queued events: leases them in turn, invokes, and writes down how each attempt ended.

Everything here but the leases is soft: after a restart the lanes are read again. An event whose
attempt was cut off is tried again, so functions see an event at least once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from pilotlight.events.dispatch.decisions import (
    Over,
    TryAgain,
    Waits,
    attempt_of,
    decide,
    is_too_old,
)
from pilotlight.events.dispatch.destinations import Outcome, deliveries
from pilotlight.events.dispatch.lanes import Fairness, Lanes
from pilotlight.events.dispatch.settling import Settled, Settler
from pilotlight.kernel.service import every
from pilotlight.model.errors import ApiError, PlatformError
from pilotlight.model.events import (
    Attempt,
    AttemptOutcome,
    Condition,
    End,
    Lane,
    Lease,
    Receipt,
    Retry,
    Settlement,
)
from pilotlight.model.function import FunctionVersion
from pilotlight.model.ids import RequestId
from pilotlight.model.invocation import Invocation, InvocationResult
from pilotlight.ports.clock import Clock
from pilotlight.ports.events import AsyncConfigs, EventQueue
from pilotlight.ports.functions import FunctionView
from pilotlight.ports.ids import IdSource
from pilotlight.ports.invoke import Invoker

log = logging.getLogger(__name__)

_RETRY_S = 1.0
"""Wait after the queue's file failed."""
_UNKNOWN_TRIES = 6
"""A function that is unknown so often (half a minute) is gone: its view may only have been old."""
_REFUSALS = frozenset({AttemptOutcome.THROTTLED, AttemptOutcome.SYSTEM_ERROR})


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How events are tried.

    Attributes:
        lease_s: length of a lease; those of attempts that take longer are renewed.
        lanes_period_s: how often all lanes are read again: other processes accept events too.
        payload_bytes: size of all payloads in memory beyond which no more are leased.
        look_s: longest sleep, so that a jump of the wall clock delays nothing for long.
    """

    waits: Waits = field(default_factory=Waits)
    fairness: Fairness = field(default_factory=Fairness)
    lease_s: float = 60.0
    lanes_period_s: float = 30.0
    payload_bytes: int = 64 * 1024 * 1024
    look_s: float = 5.0


class Dispatcher:
    """The part that dispatches asynchronous invocations.

    Args:
        queue: where the events are.
        invoker: runs them, with the admission of every other invocation.
        view: what functions there are.
        configs: how their events are treated.
        draw: random numbers from 0 up to 1.
    """

    name = "dispatch"

    def __init__(
        self,
        queue: EventQueue,
        invoker: Invoker,
        view: FunctionView,
        configs: AsyncConfigs,
        clock: Clock,
        ids: IdSource,
        draw: Callable[[], float],
        settings: DispatchSettings,
    ) -> None:
        self._queue = queue
        self._invoker = invoker
        self._view = view
        self._configs = configs
        self._clock = clock
        self._ids = ids
        self._draw = draw
        self._settings = settings
        self._lanes = Lanes(settings.fairness)
        self._news = asyncio.Event()
        self._held: dict[Receipt, Lease] = {}
        self._held_bytes = 0
        self._is_draining = False
        self._settler = Settler(queue, self._settled, retry_s=_RETRY_S)
        self._attempts: Counter[AttemptOutcome] = Counter()

    @property
    def attempts(self) -> Mapping[AttemptOutcome, int]:
        """Attempts that ended since the start, by outcome."""
        return self._attempts

    async def run(self, ready: Callable[[], None]) -> None:
        """Dispatch until cancelled; what has ended by then is written down. See `Part`."""
        self._queue.listen(self._heard)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._settler.run(), name="events-settle")
                group.create_task(every(self._settings.lanes_period_s, self._read_lanes))
                group.create_task(every(self._settings.lease_s / 3, self._renew))
                ready()
                while True:
                    await self._lease()
                    await self._sleep()
        finally:
            await self._settler.finish()

    def drain(self) -> None:
        """Lease nothing more; attempts that the frontend refuses from now on do not count."""
        self._is_draining = True

    # What is due.

    def _heard(self, lane: Lane, due_s: float) -> None:
        self._lanes.heard(lane, due_s)
        self._news.set()

    async def _read_lanes(self) -> None:
        try:
            lanes = await self._queue.lanes()
        except Exception:  # the queue's file failed; what was heard is still dispatched
            log.exception("queue_failed_for_now")
            return
        for lane, due_s in lanes.items():
            self._heard(lane, due_s)

    async def _renew(self) -> None:
        """Keep the leases of attempts that take long."""
        if not self._held:
            return
        until_s = self._clock.wall() + self._settings.lease_s
        try:
            await self._queue.renew(tuple(self._held), until_s)
        except Exception:  # the leases hold a while; tried again before they end
            log.exception("queue_failed_for_now")

    async def _sleep(self) -> None:
        """Return when something may be due."""
        wait_s = self._settings.look_s
        if not self._is_draining and self._held_bytes < self._settings.payload_bytes:
            wait_s = min(wait_s, self._lanes.next_s() - self._clock.wall())
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                pass
        self._news.clear()

    # Attempts.

    async def _lease(self) -> None:
        room = self._settings.payload_bytes - self._held_bytes
        if self._is_draining or room <= 0:
            return
        now_s = self._clock.wall()
        wants = self._lanes.choose(now_s)
        if not wants:
            return
        until_s = now_s + self._settings.lease_s
        try:
            leased = await self._queue.lease(wants, now_s=now_s, until_s=until_s, max_bytes=room)
        except Exception:  # the queue's file failed: events wait
            log.exception("queue_failed_for_now")
            for want in wants:
                self._lanes.heard(want.lane, now_s)
            await asyncio.sleep(_RETRY_S)
            return
        for lane, due_s in leased.next_due.items():
            if due_s is not None:
                self._lanes.heard(lane, due_s)
        for lease in leased.leases:
            self._held[lease.receipt] = lease
            self._held_bytes += len(lease.event.payload)
            self._lanes.started(lease.event.lane)
        for lease in leased.leases:
            self._begin(lease)

    def _begin(self, lease: Lease) -> None:
        event, now_s = lease.event, self._clock.wall()
        config = self._configs.async_config(event.account, event.function, event.qualifier)
        if is_too_old(lease, config, now_s):
            reason = lease.attempts[-1].detail if lease.attempts else ""
            over = Over(Condition.EVENT_AGE_EXCEEDED, reason)
            self._end(lease, lease.attempts, over, None)
            return
        resolved = self._view.resolve(event.account, event.function, event.qualifier)
        if resolved is None:
            unknown = ApiError("ResourceNotFoundException", f"Function not found: {event.arn}")
            self._finished(lease, now_s, None, unknown)
            return
        invocation = Invocation(
            request_id=RequestId(event.request_id),
            function=resolved.function,
            invoked_arn=event.arn,
            payload=event.payload,
            trace_id=event.trace_id,
            arrived_s=self._clock.monotonic(),
        )
        self._invoker.submit(invocation, partial(self._finished, lease, now_s, resolved.function))

    def _finished(
        self,
        lease: Lease,
        started_s: float,
        function: FunctionVersion | None,
        result: InvocationResult | PlatformError,
    ) -> None:
        now_s = self._clock.wall()
        if self._is_draining and isinstance(result, PlatformError):
            self._settler.add(Retry(lease, lease.attempts, now_s))
            return
        attempt = attempt_of(result, started_s, now_s)
        self._attempts[attempt.outcome] += 1
        attempts = (*lease.attempts, attempt)
        event = lease.event
        config = self._configs.async_config(event.account, event.function, event.qualifier)
        chance = self._draw()
        decision = decide(lease, attempts, config, self._settings.waits, now_s=now_s, chance=chance)
        if isinstance(decision, TryAgain) and _is_gone(attempts, function):
            decision = Over(Condition.RETRIES_EXHAUSTED, attempt.detail)
        if isinstance(decision, TryAgain):
            self._settler.add(Retry(lease, attempts, decision.due_s))
            return
        answered = None if isinstance(result, PlatformError) else result
        self._end(lease, attempts, decision, answered, function)

    def _end(
        self,
        lease: Lease,
        attempts: tuple[Attempt, ...],
        over: Over,
        result: InvocationResult | None,
        function: FunctionVersion | None = None,
    ) -> None:
        event, now_s = lease.event, self._clock.wall()
        if function is None:
            resolved = self._view.resolve(event.account, event.function, event.qualifier)
            function = None if resolved is None else resolved.function
        config = self._configs.async_config(event.account, event.function, event.qualifier)
        outcome = Outcome(event, attempts, over, now_s, function, result)
        made = deliveries(outcome, config, self._view, self._ids.uuid)
        self._settler.add(
            End(
                lease,
                attempts,
                over.condition,
                now_s,
                over.reason,
                tuple(made.sends),
                tuple(made.undelivered),
            )
        )

    def _settled(self, settled: Settled) -> None:
        """A settlement is durable, or its receipt was stale and the event is not ours."""
        settlement = settled.settlement
        lease = settlement.lease
        del self._held[lease.receipt]
        self._held_bytes -= len(lease.event.payload)
        if not settled.is_stale:
            self._follow(settlement)
        self._lanes.settled(
            lease.event.lane, self._clock.wall(), was_refused=_was_refused(settlement)
        )
        self._news.set()

    def _follow(self, settlement: Settlement) -> None:
        event = settlement.lease.event
        if isinstance(settlement, Retry):
            self._lanes.heard(event.lane, settlement.due_s)
            return
        for sent in settlement.sends:
            self._lanes.heard(sent.lane, sent.accepted_s)
        for kept in settlement.undelivered:
            log.warning(
                "event_not_delivered",
                extra={
                    "request_id": event.request_id,
                    "kind": kept.kind,
                    "target": kept.target,
                    "reason": kept.reason,
                },
            )


def _was_refused(settlement: Settlement) -> bool:
    """Whether the last attempt was no run of the function."""
    is_new = len(settlement.attempts) > len(settlement.lease.attempts)
    return is_new and settlement.attempts[-1].outcome in _REFUSALS


def _is_gone(attempts: tuple[Attempt, ...], function: FunctionVersion | None) -> bool:
    """Whether the function was unknown so often that it will not come back."""
    if function is not None or len(attempts) < _UNKNOWN_TRIES:
        return False
    return all(a.outcome is AttemptOutcome.SYSTEM_ERROR for a in attempts[-_UNKNOWN_TRIES:])
