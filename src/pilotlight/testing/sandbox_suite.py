"""Behaviour that every sandbox driver must show, as a test class to inherit.

A driver's author writes one subclass with a ``driver_factory`` fixture and the set of abilities
the driver lacks; nothing more. A driver that runs real code also gives ``runtime`` and makes its
sandboxes from ``code_root``, where the suite puts a function's tree under its digest. A driver
whose sandboxes see that tree elsewhere than at ``/var/task`` has a method
``task_root(spec) -> str``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from pilotlight.model.errors import SandboxError
from pilotlight.model.ids import AccountId, Digest, EnvironmentId, RuntimeName
from pilotlight.ports.sandbox import Sandbox, SandboxDriver, SandboxExit, SandboxSpec
from pilotlight.testing.sandbox_kit import (
    WITHIN_S,
    Ability,
    Behaviour,
    DriverFactory,
    Guest,
    SpecFactory,
    cancelled_at,
    child_processes,
    eventually,
    install_code,
    open_descriptors,
)
from pilotlight_guest.frames import RESULT

__all__ = ["Ability", "Behaviour", "DriverFactory", "SandboxDriverSuite", "SpecFactory"]


class SandboxDriverSuite:
    """Inherit this, give a ``driver_factory`` fixture, and say what the driver ``lacks``."""

    lacks: ClassVar[frozenset[Ability]] = frozenset()
    rounds: ClassVar[int] = 50

    @pytest.fixture
    def runtime(self) -> RuntimeName:
        """Name of a runtime that the driver has."""
        return RuntimeName("python3.11")

    @pytest.fixture
    def code_root(self, tmp_path: Path) -> Path:
        """Where the driver finds the trees of packages."""
        root = tmp_path / "code"
        root.mkdir()
        return root

    @pytest.fixture
    def spec_factory(self, runtime: RuntimeName, code_root: Path) -> SpecFactory:
        """Makes the spec of a sandbox with a behaviour and an id."""
        code = install_code(code_root)

        def spec(_behaviour: Behaviour, name: str) -> SandboxSpec:
            return SandboxSpec(
                id=EnvironmentId(name),
                tenant=AccountId("000000000000"),
                runtime=runtime,
                memory_mib=128,
                cpu_millis=72,
                ephemeral_mib=512,
                code=code,
            )

        return spec

    @pytest.fixture
    def driver_factory(self) -> DriverFactory:
        """Makes drivers of one and the same data directory."""
        raise NotImplementedError

    @pytest.fixture
    async def driver(self, driver_factory: DriverFactory) -> AsyncIterator[SandboxDriver]:
        """A driver, closed after the test."""
        driver = await driver_factory()
        gc.collect()  # what former tests dropped must not go while this one counts
        yield driver
        await driver.aclose()

    def resources(self, driver: SandboxDriver) -> Mapping[str, object]:
        """What the driver holds on this host; equal before and after a sandbox's life.

        Override to add mounts, cgroups and the like, or to leave out what a driver keeps ready.
        """
        del driver
        return {"descriptors": open_descriptors(), "children": child_processes()}

    def needs(self, ability: Ability) -> None:
        """Skip a test of an ability that the driver declares to lack."""
        if ability in self.lacks:
            pytest.skip(f"this driver declares that it lacks: {ability}")

    async def start(
        self, driver: SandboxDriver, spec_factory: SpecFactory, behaviour: Behaviour, name: str
    ) -> Guest:
        """A sandbox whose function is initialised."""
        spec = spec_factory(behaviour, name)
        sandbox = await driver.create(spec)
        find = getattr(driver, "task_root", None)
        guest = Guest(sandbox, find(spec) if find else "/var/task", behaviour)
        await guest.initialize()
        return guest

    async def settled(self, driver: SandboxDriver, before: Mapping[str, object]) -> None:
        """Wait until the driver holds what it held before."""
        with contextlib.suppress(TimeoutError):
            await eventually(lambda: self.resources(driver) == before, within_s=5)
        assert self.resources(driver) == before

    async def test_is_a_driver(self, driver: SandboxDriver) -> None:
        assert isinstance(driver, SandboxDriver)

    async def test_unknown_is_none(self, driver: SandboxDriver) -> None:
        assert await driver.poll(EnvironmentId("nobody")) is None
        await driver.destroy(EnvironmentId("nobody"))

    async def test_init_and_invocations_are_answered(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        guest = await self.start(driver, spec_factory, Behaviour.ECHO, "e1")
        for event in ({"n": 1}, "text", None, ["x" * 300_000]):
            assert await guest.invoke(event) == event

    async def test_create_is_idempotent(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        first = await driver.create(spec_factory(Behaviour.ECHO, "e1"))
        held = self.resources(driver)
        assert await driver.create(spec_factory(Behaviour.ECHO, "e1")) is first
        await self.settled(driver, held)

    async def test_concurrent_creates_of_one_id_make_one_sandbox(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        spec = spec_factory(Behaviour.ECHO, "e1")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(driver.create(spec)) for _ in range(3)]
        assert len({id(task.result()) for task in tasks}) == 1

    async def test_concurrent_creates(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        before = self.resources(driver)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.start(driver, spec_factory, Behaviour.ECHO, f"e{n}"))
                for n in range(8)
            ]
        for number, task in enumerate(tasks):
            assert await task.result().invoke(number) == number
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(driver.destroy(EnvironmentId(f"e{number}")))
        del tasks
        await self.settled(driver, before)

    async def test_start_says_how_and_by_which_steps(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        sandbox = await driver.create(spec_factory(Behaviour.ECHO, "e1"))
        assert sandbox.id == "e1"
        assert sandbox.start.how in {"blank", "fork", "spawn"}
        assert sandbox.start.phases_us
        assert all(us >= 0 for us in sandbox.start.phases_us.values())

    async def test_missing_runtime_leaves_nothing(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        self.needs(Ability.RUNTIMES)
        await self._fails(
            driver, replace(spec_factory(Behaviour.ECHO, "bad"), runtime=RuntimeName("cobol85"))
        )

    async def test_missing_code_leaves_nothing(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        self.needs(Ability.RUNS_CODE)
        await self._fails(
            driver, replace(spec_factory(Behaviour.ECHO, "bad"), code=Digest("0" * 64))
        )

    async def _fails(self, driver: SandboxDriver, spec: SandboxSpec) -> None:
        before = self.resources(driver)
        with pytest.raises(SandboxError):
            await driver.create(spec)
        assert await driver.poll(spec.id) is None
        await self.settled(driver, before)

    async def test_exit_code_is_seen(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        guest = await self.start(driver, spec_factory, Behaviour.EXIT, "e1")
        with pytest.raises(EOFError):
            await guest.invoke({})
        await self._died(driver, guest.sandbox, SandboxExit(7))

    async def test_signal_is_seen(self, driver: SandboxDriver, spec_factory: SpecFactory) -> None:
        self.needs(Ability.SIGNALS)
        guest = await self.start(driver, spec_factory, Behaviour.KILLED, "e1")
        with pytest.raises(EOFError):
            await guest.invoke({})
        await self._died(driver, guest.sandbox, SandboxExit(-9))

    async def _died(self, driver: SandboxDriver, sandbox: Sandbox, how: SandboxExit) -> None:
        async with asyncio.timeout(WITHIN_S):
            assert await sandbox.wait() == how
        status = await driver.poll(sandbox.id)
        assert status is not None
        assert status.exit == how
        await driver.destroy(sandbox.id)
        assert await driver.poll(sandbox.id) is None
        assert await sandbox.wait() == how

    async def test_a_running_sandbox_has_no_exit(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        await driver.create(spec_factory(Behaviour.ECHO, "e1"))
        status = await driver.poll(EnvironmentId("e1"))
        assert status is not None
        assert status.exit is None

    @pytest.mark.parametrize("grace_s", [0.0, 0.2])
    @pytest.mark.parametrize("behaviour", [Behaviour.ECHO, Behaviour.SPIN, Behaviour.STUBBORN])
    async def test_destroy_ends_it_whatever_it_does(
        self,
        driver: SandboxDriver,
        spec_factory: SpecFactory,
        behaviour: Behaviour,
        grace_s: float,
    ) -> None:
        before = self.resources(driver)
        guest = await self.start(driver, spec_factory, behaviour, "e1")
        if behaviour is Behaviour.STUBBORN:
            await guest.invoke({})
        else:
            await guest.start_invoke({})
        await self._destroyed(driver, guest.sandbox, grace_s)
        await self.settled(driver, before)

    async def _destroyed(
        self, driver: SandboxDriver, sandbox: Sandbox, grace_s: float = 0.0
    ) -> None:
        async with asyncio.timeout(WITHIN_S):
            await driver.destroy(sandbox.id, grace_s=grace_s)
            await sandbox.wait()
        assert await driver.poll(sandbox.id) is None
        assert sandbox.channel.fileno() == -1
        sandbox.usage()
        sandbox.freeze()
        sandbox.thaw()
        await driver.destroy(sandbox.id, grace_s=grace_s)

    async def test_destroy_of_a_frozen_sandbox(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        self.needs(Ability.FREEZES)
        before = self.resources(driver)
        for grace_s in (0.0, 0.2):
            guest = await self.start(driver, spec_factory, Behaviour.ECHO, "e1")
            guest.sandbox.freeze()
            await self._destroyed(driver, guest.sandbox, grace_s)
        await self.settled(driver, before)

    async def test_freeze_stops_and_thaw_resumes(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        self.needs(Ability.FREEZES)
        guest = await self.start(driver, spec_factory, Behaviour.ECHO, "e1")
        guest.sandbox.freeze()
        guest.sandbox.freeze()
        wanted = await guest.start_invoke("late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await guest.receive()
        guest.sandbox.thaw()
        guest.sandbox.thaw()
        assert await guest.receive() == (wanted, RESULT, b'"late"')

    async def test_log_pipe_carries_both_streams(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        self.needs(Ability.LOGS)
        guest = await self.start(driver, spec_factory, Behaviour.TALK, "e1")
        await guest.invoke({})
        seen = bytearray()

        def both() -> bool:
            with contextlib.suppress(BlockingIOError):
                seen.extend(os.read(guest.sandbox.log_fd, 65536))
            return b"line on stdout\n" in seen and b"line on stderr\n" in seen

        await eventually(both)

    async def test_log_descriptor_is_not_blocking(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        sandbox = await driver.create(spec_factory(Behaviour.ECHO, "e1"))
        assert not os.get_blocking(sandbox.log_fd)
        assert not sandbox.channel.getblocking()

    async def test_usage_is_plausible(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        self.needs(Ability.USAGE)
        guest = await self.start(driver, spec_factory, Behaviour.SPIN, "e1")
        idle = guest.sandbox.usage()
        await guest.start_invoke({})
        await eventually(lambda: guest.sandbox.usage().cpu_ns >= idle.cpu_ns + 30_000_000)
        assert 500_000 < guest.sandbox.usage().peak_memory_bytes < 1 << 30

    async def test_cancelled_create_leaves_nothing(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        await self.start(driver, spec_factory, Behaviour.ECHO, "warm")
        before = self.resources(driver)
        for at in range(200):
            name = EnvironmentId(f"c{at}")
            completed = await cancelled_at(driver.create(spec_factory(Behaviour.ECHO, name)), at)
            if completed:
                await driver.destroy(name)
                await self.settled(driver, before)
                return
            assert await driver.poll(name) is None, f"cancelled at suspension {at}"
            await self.settled(driver, before)
        pytest.fail("create never completed")

    @pytest.mark.parametrize("grace_s", [0.0, 0.05])
    async def test_cancelled_destroy_leaves_nothing(
        self, driver: SandboxDriver, spec_factory: SpecFactory, grace_s: float
    ) -> None:
        before = self.resources(driver)
        for at in range(200):
            name = EnvironmentId(f"c{at}")
            guest = await self.start(driver, spec_factory, Behaviour.STUBBORN, name)
            await guest.invoke({})
            completed = await cancelled_at(driver.destroy(name, grace_s=grace_s), at)
            async with asyncio.timeout(WITHIN_S):
                await guest.sandbox.wait()
            del guest
            await driver.destroy(name)
            assert await driver.poll(name) is None
            await self.settled(driver, before)
            if completed:
                return
        pytest.fail("destroy never completed")

    async def test_adopt_leaves_nothing_unknown(
        self, driver: SandboxDriver, driver_factory: DriverFactory, spec_factory: SpecFactory
    ) -> None:
        self.needs(Ability.ADOPTS)
        guest = await self.start(driver, spec_factory, Behaviour.STUBBORN, "old")
        await guest.invoke({})
        second = await driver_factory()
        try:
            adopted = await second.adopt()
            status = await second.poll(EnvironmentId("old"))
            assert (status is not None) == ("old" in adopted)
            if not adopted:
                async with asyncio.timeout(WITHIN_S):
                    await guest.sandbox.wait()
                with pytest.raises(EOFError):
                    await guest.receive()
            assert await second.adopt() == adopted
        finally:
            await second.aclose()

    async def test_adopt_of_nothing(self, driver: SandboxDriver) -> None:
        assert await driver.adopt() == ()

    async def test_close_destroys_all_and_is_idempotent(
        self, driver_factory: DriverFactory, spec_factory: SpecFactory
    ) -> None:
        driver = await driver_factory()
        guests = [
            await self.start(driver, spec_factory, Behaviour.STUBBORN, f"e{n}") for n in range(3)
        ]
        await driver.aclose()
        for guest in guests:
            async with asyncio.timeout(WITHIN_S):
                await guest.sandbox.wait()
        await driver.aclose()

    async def test_many_rounds_leave_nothing(
        self, driver: SandboxDriver, spec_factory: SpecFactory
    ) -> None:
        await driver.destroy((await driver.create(spec_factory(Behaviour.ECHO, "warm"))).id)
        before = self.resources(driver)
        for number in range(self.rounds):
            sandbox = await driver.create(spec_factory(Behaviour.ECHO, f"r{number}"))
            await driver.destroy(sandbox.id)
        await self.settled(driver, before)
