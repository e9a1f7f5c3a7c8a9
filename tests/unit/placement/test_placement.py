"""Where environments go, and that credits never exceed an account's limit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pilotlight.control.placement.credits import AccountCredits
from pilotlight.control.placement.policies import Candidate, choose_worker, grant
from pilotlight.control.placement.service import PlacementService
from pilotlight.model.errors import IsolationMissing
from pilotlight.model.function import Isolation
from pilotlight.model.ids import Digest
from pilotlight.ports.placement import NoCapacity, UnknownFrontend
from pilotlight.ports.worker import (
    EnvironmentOrder,
    EnvironmentOwner,
    EnvironmentStatus,
    WorkerLoad,
)
from pilotlight.testing.scripted import CountedIds, a_function

LOAD = WorkerLoad("w1", "z1", frozenset({Isolation.MEMORY}), 1000, 0, 0, 0, is_open=True)


def named(name: str, **changes: object) -> WorkerLoad:
    return replace(LOAD, worker=name, **changes)  # type: ignore[arg-type]  # keywords of a test


def test_warm_code_comes_before_free_memory_before_spread() -> None:
    full = Candidate(named("full", charged_mib=990))
    warm = Candidate(named("warm", charged_mib=500), has_code=True)
    free = Candidate(named("free"))
    assert choose_worker([full, warm, free], 100) == "warm"
    assert choose_worker([full, free], 100) == "free"
    assert choose_worker([Candidate(named("b"), siblings=1), Candidate(named("a"))], 1) == "a"
    crowded = Candidate(named("a"), siblings=2)
    assert choose_worker([crowded, Candidate(named("b", charged_mib=10))], 1) == "b"


def test_no_room_and_closed_workers_are_not_chosen() -> None:
    assert choose_worker([Candidate(named("a", charged_mib=950))], 100) is None
    assert choose_worker([Candidate(named("a", charged_mib=950, evictable_mib=60))], 100) == "a"
    assert choose_worker([Candidate(named("a", is_open=False))], 1) is None
    assert choose_worker([], 1) is None


@given(
    st.integers(0, 2000),
    st.dictionaries(st.text(max_size=2), st.integers(0, 500), max_size=5),
    st.integers(0, 6),
    st.integers(1, 300),
)
def test_a_grant_never_exceeds_what_is_free(
    limit: int, held: dict[str, int], live: int, wanted: int
) -> None:
    given_now = grant(limit, held, [str(n) for n in range(live)], wanted)
    free = max(0, limit - sum(held.values()))
    assert 0 <= given_now <= free
    assert given_now >= min(wanted, free)


class Ledger(RuleBasedStateMachine):
    """Any order of grants, returns and deaths keeps the sum within the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = AccountCredits(100)
        self.held: dict[str, int] = {}

    @rule(name=st.sampled_from("abc"), wanted=st.integers(1, 60))
    def take(self, name: str, wanted: int) -> None:
        self.held[name] = self.held.get(name, 0) + self.ledger.take(name, wanted, "abc")

    @rule(name=st.sampled_from("abc"), part=st.integers(0, 60))
    def give_back(self, name: str, part: int) -> None:
        count = min(part, self.held.get(name, 0))
        self.ledger.give_back(name, count)
        self.held[name] = self.held.get(name, 0) - count

    @rule(name=st.sampled_from("abc"))
    def release(self, name: str) -> None:
        self.ledger.release(name)
        self.held.pop(name, None)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        assert sum(self.held.values()) <= 100
        assert self.ledger.free == 100 - sum(self.held.values())
        assert all(self.ledger.held_by(n) == self.held.get(n, 0) for n in "abc")


Ledger.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLedger = Ledger.TestCase


def test_more_than_is_held_cannot_be_returned() -> None:
    with pytest.raises(ValueError, match="returns 1 credits and holds 0"):
        AccountCredits(10).give_back("a", 1)


@dataclass
class Holder:
    """A frontend that has some unused credits."""

    unused: int = 0

    async def recall(self, account: str, wanted: int) -> int:
        del account
        given_back = min(self.unused, wanted)
        self.unused -= given_back
        return given_back


class Worker:
    """A worker that places nothing and remembers its fences."""

    worker = "w1"

    def __init__(self, load: WorkerLoad = LOAD) -> None:
        self._load = load
        self.fences: list[tuple[str, int]] = []
        self.ended = asyncio.Event()

    def start(self, order: EnvironmentOrder, owner: EnvironmentOwner) -> None:
        raise AssertionError((order, owner))

    def load(self) -> WorkerLoad:
        return self._load

    def has_code(self, code: Digest) -> bool:
        return bool(code)

    async def fence(self, frontend: str, epoch: int) -> None:
        self.fences.append((frontend, epoch))
        await self.ended.wait()

    def environments(self) -> tuple[EnvironmentStatus, ...]:
        return ()


def service(worker: Worker) -> PlacementService:
    return PlacementService(
        [worker],
        CountedIds(),
        lambda _account: 100,
        default_isolation=Isolation.MEMORY,
        charge_mib=lambda memory_mib: memory_mib,
    )


@pytest.mark.anyio
async def test_unused_credits_of_another_frontend_are_recalled_before_a_refusal() -> None:
    placement = service(Worker())
    one, two = Holder(), Holder()
    first = await placement.join("one", one)
    got = (await placement.credits("one", first, "a", 1)).credits
    assert got == 100
    one.unused = 30
    second = await placement.join("two", two)
    assert (await placement.credits("two", second, "a", 20)).credits == 20
    assert (await placement.credits("two", second, "a", 20)).credits == 10
    assert (await placement.credits("two", second, "a", 20)).credits == 0
    assert placement.held("a") == 100


@pytest.mark.anyio
async def test_credits_of_a_dead_frontend_return_only_when_its_runs_ended() -> None:
    worker = Worker()
    placement = service(worker)
    epoch = await placement.join("one", Holder())
    await placement.credits("one", epoch, "a", 1)
    other = await placement.join("two", Holder())
    async with asyncio.TaskGroup() as group:
        group.create_task(placement.leave("one"))
        while not worker.fences:  # noqa: ASYNC110  # the next step of the other task
            await asyncio.sleep(0)
        assert worker.fences == [("one", epoch + 1)]
        assert (await placement.credits("two", other, "a", 5)).credits == 0
        worker.ended.set()
    assert (await placement.credits("two", other, "a", 5)).credits == 100
    with pytest.raises(UnknownFrontend):
        await placement.credits("one", epoch, "a", 1)


@pytest.mark.anyio
async def test_place_says_why_it_cannot() -> None:
    placement = service(Worker(named("w1", charged_mib=990)))
    epoch = await placement.join("one", Holder())
    with pytest.raises(NoCapacity, match="128 MB"):
        await placement.place("one", epoch, a_function())
    with pytest.raises(IsolationMissing, match="'container'"):
        await placement.place("one", epoch, a_function(isolation=Isolation.CONTAINER))
    with pytest.raises(UnknownFrontend):
        await placement.place("one", epoch + 1, a_function())


@pytest.mark.anyio
async def test_a_placed_environment_has_a_fresh_name_and_the_epoch() -> None:
    placement = service(Worker())
    epoch = await placement.join("one", Holder())
    first = await placement.place("one", epoch, a_function())
    second = await placement.place("one", epoch, a_function())
    assert first.environment != second.environment
    assert len(first.environment) == 32
    assert (first.worker, first.epoch) == ("w1", epoch)
