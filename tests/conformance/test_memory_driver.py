"""The memory driver under the suite, and its scripts."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from pilotlight.dataplane.sandboxes.memory import MemoryDriver, MemoryHost
from pilotlight.model.errors import SandboxError
from pilotlight.model.ids import AccountId, Digest, EnvironmentId, RuntimeName
from pilotlight.ports.sandbox import SandboxExit, SandboxSpec
from pilotlight.testing.sandbox_kit import Ability, Behaviour, Guest
from pilotlight.testing.sandbox_suite import DriverFactory, SandboxDriverSuite, SpecFactory
from pilotlight.testing.simloop import SimLoop, simulate
from pilotlight_guest.frames import INIT_ERROR

pytestmark = pytest.mark.anyio


def spec(script: str, name: str = "e1") -> SandboxSpec:
    return SandboxSpec(
        id=EnvironmentId(name),
        tenant=AccountId("000000000000"),
        runtime=RuntimeName(f"memory:{script}"),
        memory_mib=128,
        cpu_millis=72,
        ephemeral_mib=512,
        code=Digest("0" * 64),
    )


class TestMemoryDriver(SandboxDriverSuite):
    lacks = frozenset({Ability.RUNS_CODE, Ability.USAGE})

    @pytest.fixture
    def spec_factory(self) -> SpecFactory:
        return spec

    @pytest.fixture
    def driver_factory(self) -> DriverFactory:
        host = MemoryHost()

        async def make() -> MemoryDriver:
            return MemoryDriver(host)

        return make


async def started(driver: MemoryDriver, script: str) -> Guest:
    guest = Guest(await driver.create(spec(script)), "/var/task", Behaviour.ECHO)
    await guest.initialize()
    return guest


async def test_out_of_memory_is_told_apart() -> None:
    driver = MemoryDriver()
    guest = await started(driver, "oom")
    with pytest.raises(EOFError):
        await guest.invoke({})
    assert await guest.sandbox.wait() == SandboxExit(-9, oom_killed=True)
    await driver.aclose()


async def test_exit_takes_its_number() -> None:
    driver = MemoryDriver()
    guest = await started(driver, "exit:3")
    with pytest.raises(EOFError):
        await guest.invoke({})
    assert await guest.sandbox.wait() == SandboxExit(3)
    await driver.aclose()


async def test_a_failed_init_is_answered_before_the_exit() -> None:
    driver = MemoryDriver()
    guest = Guest(await driver.create(spec("init-fail")), "/var/task", Behaviour.ECHO)
    await guest.receive()
    await guest.send_init()
    _, kind, body = await guest.receive()
    assert (kind, json.loads(body)["errorType"]) == (INIT_ERROR, "Runtime.ImportModuleError")
    assert await guest.sandbox.wait() == SandboxExit(1)
    await driver.aclose()


@pytest.mark.parametrize("runtime", ["python3.11", "memory:", "memory:dance", "memory:slow:x"])
async def test_an_unknown_script_is_refused_with_the_known_ones(runtime: str) -> None:
    with pytest.raises(SandboxError, match="echo"):
        await MemoryDriver().create(replace(spec("echo"), runtime=RuntimeName(runtime)))


async def test_no_create_leaves_nothing() -> None:
    driver = MemoryDriver()
    with pytest.raises(SandboxError, match="never created"):
        await driver.create(spec("no-create"))
    assert await driver.poll(EnvironmentId("e1")) is None


def test_slow_takes_loop_time_and_a_freeze_holds_it_back() -> None:
    async def main(loop: SimLoop) -> tuple[float, float]:
        driver = MemoryDriver()
        guest = await started(driver, "slow:900000")
        began = loop.monotonic()
        channel = guest.sandbox.channel
        first = await guest.start_invoke("x")
        await asyncio.sleep(900.5)
        assert channel.recv(100)
        took = loop.monotonic() - began
        await guest.start_invoke("y")
        await asyncio.sleep(1)
        guest.sandbox.freeze()
        await asyncio.sleep(3600)
        with pytest.raises(BlockingIOError):
            channel.recv(100)
        guest.sandbox.thaw()
        assert channel.recv(100).endswith(b'"y"')
        await driver.aclose()
        return took, first

    took, sequence = simulate(main)
    assert took == pytest.approx(900.5)
    assert sequence == 1
