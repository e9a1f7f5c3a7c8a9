"""Whose turn it is: lanes take turns, accounts before functions, and none takes all slots. Pure.

Soft state: what is due when, as last heard. The queue knows better, so a lane that is asked in
vain costs one look into an index.

* Turns: accounts round robin, and within an account its functions; a few events a turn.
* Share: a lane may run at most as many events as twice the slots that are free, an account four
  times as many. So a lane alone gets two thirds of all slots, an account alone four fifths;
  whoever comes later finds some free.
* Window: a lane begins with few events at a time; it grows with every success, and each second
  without a refusal; a throttle or a fault halves it and makes the lane pause. So a backlog fills
  what the function's concurrency has room for, without hammering at a limit.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pilotlight.model.events import Lane
from pilotlight.ports.events import Want

_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Fairness:
    """Limits of the rules above.

    Attributes:
        slots: events that may run at the same time.
        turn: events a lane gets in one turn.
        share: of a lane, in free slots; see above.
        account_share: of an account.
        window: events at a time that a lane begins with.
        pause_s: pause after a refusal, doubled with each in a row.
        pause_max_s: longest of these.
    """

    slots: int = 1000
    turn: int = 16
    share: float = 2.0
    account_share: float = 4.0
    window: float = 8.0
    pause_s: float = 0.05
    pause_max_s: float = 1.0


class _State:
    """What is known of one lane."""

    __slots__ = ("due_s", "grew_s", "has_slow_start", "is_blocked", "pause_s", "running", "window")

    def __init__(self, window: float) -> None:
        self.due_s = math.inf
        self.running = 0
        self.window = window
        self.has_slow_start = True
        self.grew_s = 0.0
        self.pause_s = 0.0
        self.is_blocked = False


class Lanes:
    """All lanes that have, or may have, events."""

    def __init__(self, fairness: Fairness) -> None:
        self._fairness = fairness
        self._states: dict[Lane, _State] = {}
        self._by_account: Counter[str] = Counter()
        self._running = 0
        self._heap: list[tuple[float, Lane]] = []
        # Dictionaries as ordered sets: the first of each is next.
        self._ready: dict[str, dict[Lane, None]] = {}
        self._blocked: dict[str, dict[Lane, None]] = {}

    def heard(self, lane: Lane, due_s: float) -> None:
        """A lane has an event that is due at a time."""
        state = self._state(lane)
        if due_s < state.due_s:
            state.due_s = due_s
            heapq.heappush(self._heap, (due_s, lane))

    def _state(self, lane: Lane) -> _State:
        state = self._states.get(lane)
        if state is None:
            state = self._states[lane] = _State(self._fairness.window)
        return state

    def next_s(self) -> float:
        """When `choose` should be called at the latest; infinity when nothing is known."""
        if any(self._ready.values()):
            return -math.inf if self._running < self._fairness.slots else math.inf
        return self._heap[0][0] if self._heap else math.inf

    def choose(self, now_s: float) -> list[Want]:
        """Choose lanes to lease from; each is forgotten until `heard` names it again.

        Call `started` for the events that were leased.
        """
        self._wake(now_s)
        free = self._fairness.slots - self._running
        wants: list[Want] = []
        for lane in self._in_turn():
            if free <= 0:
                break
            state = self._states[lane]
            del self._ready[lane.account][lane]
            if state.pause_s and now_s < state.grew_s:
                heapq.heappush(self._heap, (state.grew_s, lane))
                continue
            room = self._room(lane, state, free, now_s)
            if room <= 0:
                self._block(lane, state, now_s)
                continue
            limit = min(room, self._fairness.turn, free)
            state.due_s = math.inf
            self._by_account[lane.account] += limit  # as if all were leased, for the next lanes
            free -= limit
            wants.append(Want(lane, limit))
        for want in wants:
            self._by_account[want.lane.account] -= want.limit
            self._last(want.lane.account)
        return wants

    def started(self, lane: Lane) -> None:
        """An event of a lane was leased."""
        self._state(lane).running += 1
        self._by_account[lane.account] += 1
        self._running += 1

    def settled(self, lane: Lane, now_s: float, *, was_refused: bool) -> None:
        """An event of a lane is no longer leased; call `heard` before if it is to be tried again."""
        state = self._states[lane]
        state.running -= 1
        self._running -= 1
        self._by_account[lane.account] -= 1
        if not self._by_account[lane.account]:
            del self._by_account[lane.account]
        if was_refused:
            self._shrink(state, now_s)
        else:
            state.pause_s = 0.0
            state.window += 1.0 if state.has_slow_start else 1.0 / state.window
        for blocked in self._blocked.pop(lane.account, ()):
            self._states[blocked].is_blocked = False
            self._ready.setdefault(blocked.account, {})[blocked] = None
        if state.running == 0 and state.due_s == math.inf:
            del self._states[lane]

    def _shrink(self, state: _State, now_s: float) -> None:
        fairness = self._fairness
        state.has_slow_start = False
        if now_s >= state.grew_s:  # refusals of one round count once
            state.window = max(1.0, min(state.window, state.running + 1) / 2)
            state.pause_s = min(max(fairness.pause_s, state.pause_s * 2), fairness.pause_max_s)
        state.grew_s = now_s + state.pause_s

    def _wake(self, now_s: float) -> None:
        while self._heap and self._heap[0][0] <= now_s:
            _, lane = heapq.heappop(self._heap)
            state = self._states.get(lane)
            if state is None or state.due_s > now_s:
                continue
            if state.is_blocked:
                state.is_blocked = False
                self._blocked[lane.account].pop(lane, None)
            self._ready.setdefault(lane.account, {})[lane] = None

    def _in_turn(self) -> Iterator[Lane]:
        """Ready lanes: the first of each account, then the second of each, and so on."""
        rows = [iter(tuple(lanes)) for lanes in self._ready.values()]
        while rows:
            left = []
            for row in rows:
                lane = next(row, None)
                if lane is not None:
                    left.append(row)
                    yield lane
            rows = left

    def _room(self, lane: Lane, state: _State, free: int, now_s: float) -> int:
        state.grew_s = state.grew_s or now_s
        if state.running >= state.window and now_s - state.grew_s >= _LOOK_AGAIN_S:
            state.window *= 2
            state.grew_s = now_s
        fairness = self._fairness
        return min(
            int(state.window) - state.running,
            _room_within(fairness.share, state.running, free),
            _room_within(fairness.account_share, self._by_account[lane.account], free),
        )

    def _block(self, lane: Lane, state: _State, now_s: float) -> None:
        """Leave a lane aside until something of its account ends, or for a second."""
        state.is_blocked = True
        self._blocked.setdefault(lane.account, {})[lane] = None
        heapq.heappush(self._heap, (now_s + _LOOK_AGAIN_S, lane))

    def _last(self, account: str) -> None:
        """Put an account at the end of the turns."""
        lanes = self._ready.pop(account, None)
        if lanes:
            self._ready[account] = lanes


def _room_within(share: float, running: int, free: int) -> int:
    """How many more may run so that all of them are at most ``share`` times what is then free."""
    room = int((share * free - running) / (1 + share))
    return max(1, room) if running == 0 else room
