"""Blank pools follow use, within memory, and survive a driver that can't fill them."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.control.warmpools import BlankKeeper, BlankSettings
from pilotlight.control.warmpools.policy import wanted_blanks
from pilotlight.model.errors import SandboxError
from pilotlight.model.ids import AccountId, RuntimeName
from pilotlight.ports.sandbox import BlankClass
from pilotlight.testing.scripted import RecordedTelemetry
from pilotlight.testing.simloop import SimLoop, simulate


def kind(name: str) -> BlankClass:
    return BlankClass(AccountId("0" * 12), RuntimeName(name))


A, B, C = kind("python3.11"), kind("python3.12"), kind("python3.13")


def test_recent_classes_get_blanks_until_memory_is_spent() -> None:
    settings = BlankSettings(blank_pool=2, memory_mib=24, blank_mib=8, always=(C,))
    assert wanted_blanks({}, 0.0, settings) == {C: 2}
    assert wanted_blanks({A: 1.0, B: 2.0}, 3.0, settings) == {C: 2, B: 1}
    assert wanted_blanks({A: 1.0}, 700.0, settings) == {C: 2}
    assert wanted_blanks({A: 1.0}, 2.0, BlankSettings(blank_pool=0)) == {}


class Driver:
    def __init__(self) -> None:
        self.kept: dict[BlankClass, int] = {}
        self.is_broken = False

    async def keep_blanks(self, kind: BlankClass, count: int) -> None:
        if self.is_broken:
            raise SandboxError("no pids")
        self.kept[kind] = count

    def blanks(self) -> Mapping[BlankClass, int]:
        return self.kept


def test_the_keeper_fills_follows_forgets_and_tries_again() -> None:
    async def main(loop: SimLoop) -> None:
        driver, telemetry = Driver(), RecordedTelemetry()
        keeper = BlankKeeper(driver, telemetry, loop, BlankSettings(always=(A,)))
        await keeper.tick()
        assert driver.kept == {A: 2}
        driver.is_broken = True
        keeper.used(B)
        await keeper.tick()
        assert telemetry.failures == [("warmpools", "SandboxError")]
        driver.is_broken = False
        await keeper.tick()
        assert driver.kept == {A: 2, B: 2}
        loop._jump(1000)
        await keeper.tick()
        assert driver.kept == {A: 2, B: 0}

    simulate(main)
