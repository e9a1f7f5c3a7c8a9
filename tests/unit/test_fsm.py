"""A table machine: accepted events step, all others raise with the state named."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from pilotlight.kernel.fsm import Machine, Step
from pilotlight.model.environment import EnvironmentState
from pilotlight.model.errors import InvalidTransition


@dataclass(frozen=True, slots=True)
class Environment:
    id: str
    state: EnvironmentState
    in_use: int = 0


@dataclass(frozen=True, slots=True)
class Assigned:
    invocation: str


@dataclass(frozen=True, slots=True)
class Finished:
    invocation: str


@dataclass(frozen=True, slots=True)
class Send:
    invocation: str


Event = Assigned | Finished


def assign(env: Environment, event: Event) -> Step[Environment, Send]:
    return Step(
        replace(env, state=EnvironmentState.BUSY, in_use=env.in_use + 1), (Send(event.invocation),)
    )


def finish(env: Environment, _: Event) -> Step[Environment, Send]:
    return Step(replace(env, state=EnvironmentState.IDLE, in_use=env.in_use - 1))


MACHINE: Machine[Environment, Event, Send] = Machine(
    "environment",
    lambda env: env.state,
    {(EnvironmentState.IDLE, Assigned): assign, (EnvironmentState.BUSY, Finished): finish},
)


def test_an_assigned_idle_environment_is_busy_and_is_told_to_run() -> None:
    env = Environment("e1", EnvironmentState.IDLE)
    step = MACHINE.step(env, Assigned("i1"))
    assert step.state.state is EnvironmentState.BUSY
    assert step.instructions == (Send("i1"),)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        pair
        for pair in itertools.product(EnvironmentState, (Assigned("i"), Finished("i")))
        if (pair[0], type(pair[1])) not in MACHINE.table
    ],
)
def test_every_pair_outside_the_table_is_refused(state: EnvironmentState, event: Event) -> None:
    with pytest.raises(InvalidTransition, match=state.value):
        MACHINE.step(Environment("e1", state), event)
