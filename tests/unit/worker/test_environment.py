"""The environment machine: every row, every refused pair, and long lives against a naive model."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pilotlight.dataplane.worker import environment as e
from pilotlight.dataplane.worker.environment import EVENTS, MACHINE, Life, can_assign, node_of
from pilotlight.model.environment import EnvironmentState as S
from pilotlight.model.errors import InvalidTransition

CREATING, INITIALIZING = Life(S.CREATING), Life(S.INITIALIZING)
IDLE, FROZEN, DEAD = Life(S.IDLE), Life(S.IDLE, is_frozen=True), Life(S.DEAD)


def busy(count: int) -> Life:
    return Life(S.BUSY, count)


def draining(count: int) -> Life:
    return Life(S.DRAINING, count)


ROWS: list[tuple[Life, e.Event, Life, tuple[e.Instruction, ...]]] = [
    (CREATING, e.SandboxReady(), INITIALIZING, (e.SendInit(),)),
    (CREATING, e.CreateFailed(), DEAD, (e.FailStart(), e.Destroy())),
    (CREATING, e.Retired(), DEAD, (e.FailStart(), e.Destroy())),
    (INITIALIZING, e.InitDone(), IDLE, (e.Rest(), e.Offer())),
    (INITIALIZING, e.InitFailed(), DEAD, (e.FailStart(), e.Destroy())),
    (INITIALIZING, e.Lied(), DEAD, (e.FailStart(), e.Destroy())),
    (INITIALIZING, e.Exited(), DEAD, (e.FailStart(), e.Destroy())),
    (INITIALIZING, e.Retired(), DEAD, (e.FailStart(), e.Destroy())),
    (IDLE, e.Assigned(), busy(1), (e.SendInvoke(),)),
    (FROZEN, e.Assigned(), busy(1), (e.Thaw(), e.SendInvoke())),
    (IDLE, e.IdleLong(), FROZEN, (e.Freeze(),)),
    (FROZEN, e.IdleLong(), FROZEN, ()),
    (IDLE, e.Lied(), DEAD, (e.Destroy(),)),
    (IDLE, e.Exited(), DEAD, (e.Destroy(),)),
    (FROZEN, e.Retired(), DEAD, (e.Destroy(),)),
    (busy(1), e.Assigned(), busy(2), (e.SendInvoke(),)),
    (busy(1), e.Answered(), IDLE, (e.Rest(), e.Deliver())),
    (busy(3), e.Answered(), busy(2), (e.Deliver(),)),
    (busy(2), e.TimedOut(), DEAD, (e.FailRunning(), e.Destroy())),
    (busy(2), e.Lied(), DEAD, (e.FailRunning(), e.Destroy())),
    (busy(1), e.Exited(), DEAD, (e.FailRunning(), e.Destroy())),
    (busy(2), e.Retired(), draining(2), ()),
    (draining(2), e.Answered(), draining(1), (e.Deliver(),)),
    (draining(1), e.Answered(), DEAD, (e.Deliver(), e.Destroy())),
    (draining(1), e.TimedOut(), DEAD, (e.FailRunning(), e.Destroy())),
    (draining(1), e.Lied(), DEAD, (e.FailRunning(), e.Destroy())),
    (draining(1), e.Exited(), DEAD, (e.FailRunning(), e.Destroy())),
    (draining(1), e.Retired(), draining(1), ()),
    (DEAD, e.Exited(), DEAD, ()),
    (DEAD, e.Retired(), DEAD, ()),
]


@pytest.mark.parametrize(("before", "event", "after", "instructions"), ROWS)
def test_row(
    before: Life, event: e.Event, after: Life, instructions: tuple[e.Instruction, ...]
) -> None:
    taken = node_of(before).after(event)
    assert taken.node.life == after
    assert taken.instructions == instructions
    assert node_of(before).after(event) is taken, "what was looked up once is remembered"


def test_every_row_of_the_table_is_tested() -> None:
    assert {(before.phase, type(event)) for before, event, _, _ in ROWS} == set(MACHINE.table)


@pytest.mark.parametrize(
    ("phase", "event"),
    [pair for pair in itertools.product(S, EVENTS) if pair not in MACHINE.table],
)
def test_every_pair_outside_the_table_is_refused(phase: S, event: type[e.Event]) -> None:
    with pytest.raises(InvalidTransition, match=phase.value):
        node_of(Life(phase, in_flight=1 if phase in (S.BUSY, S.DRAINING) else 0)).after(event())


def test_assignment_respects_the_depth() -> None:
    assert can_assign(IDLE)
    assert can_assign(busy(e.MAX_IN_FLIGHT - 1))
    assert not can_assign(busy(e.MAX_IN_FLIGHT))
    assert not can_assign(draining(1))
    assert not can_assign(INITIALIZING)


class Lives(RuleBasedStateMachine):
    """A naive model: what is in flight is a list, what was delivered is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.sent = 0
        self.ended = 0
        self.is_destroyed = False
        self.is_frozen = False

    def _step(self, event: e.Event) -> None:
        taken = node_of(self.life).after(event)
        self.life = taken.node.life
        for instruction in taken.instructions:
            assert not self.is_destroyed, "nothing is done after the end"
            match instruction:
                case e.SendInvoke():
                    assert not self.is_frozen, "a frozen runtime would never read it"
                    self.sent += 1
                case e.Deliver() | e.FailRunning():
                    self.ended += 1
                    assert self.ended <= self.sent
                case e.Destroy():
                    self.is_destroyed = True
                case e.Freeze():
                    self.is_frozen = True
                case e.Thaw():
                    self.is_frozen = False
                case _:
                    pass

    @precondition(lambda self: self.life.phase is S.CREATING)
    @rule()
    def made(self) -> None:
        self._step(e.SandboxReady())

    @precondition(lambda self: self.life.phase is S.INITIALIZING)
    @rule()
    def initialized(self) -> None:
        self._step(e.InitDone())

    @precondition(lambda self: can_assign(self.life))
    @rule()
    def assigned(self) -> None:
        self._step(e.Assigned())

    @precondition(lambda self: self.life.in_flight > 0)
    @rule()
    def answered(self) -> None:
        self._step(e.Answered())

    @precondition(lambda self: self.life.phase is S.IDLE)
    @rule()
    def idle(self) -> None:
        self._step(e.IdleLong())

    @precondition(lambda self: self.life.in_flight > 0)
    @rule()
    def timed_out(self) -> None:
        self._step(e.TimedOut())

    @precondition(lambda self: self.life.phase is not S.CREATING)
    @rule()
    def exited(self) -> None:
        self._step(e.Exited())

    @rule()
    def retired(self) -> None:
        self._step(e.Retired())

    @invariant()
    def in_flight_is_what_was_sent_and_not_answered(self) -> None:
        if self.life.phase is not S.DEAD:
            assert self.life.in_flight == self.sent - self.ended
        assert 0 <= self.life.in_flight <= e.MAX_IN_FLIGHT

    @invariant()
    def dead_means_destroyed_and_frozen_means_idle(self) -> None:
        assert (self.life.phase is S.DEAD) == self.is_destroyed
        assert not self.life.is_frozen or self.life.phase is S.IDLE
        assert (self.life.in_flight > 0) == (self.life.phase in (S.BUSY, S.DRAINING))


Lives.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLives = Lives.TestCase
