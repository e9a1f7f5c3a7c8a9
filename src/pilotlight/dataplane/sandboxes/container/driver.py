"""The container driver: sandboxes of namespaces and cgroups, asked of the privileged launcher.

Needs no capability: everything that does is behind the launcher's socket. It keeps no task; what
happens between calls happens in callbacks of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import structlog

from pilotlight.dataplane.sandboxes.container import protocol
from pilotlight.dataplane.sandboxes.container.blanks import BlankPool
from pilotlight.dataplane.sandboxes.container.cell import Cell, ContainerSandbox
from pilotlight.dataplane.sandboxes.container.link import Answer, LauncherLink
from pilotlight.dataplane.sandboxes.container.start import Launcher
from pilotlight.model.errors import IsolationMissing, SandboxError
from pilotlight.model.function import Isolation
from pilotlight.model.ids import EnvironmentId
from pilotlight.ports.sandbox import (
    BlankClass,
    Network,
    Sandbox,
    SandboxSpec,
    SandboxStart,
    SandboxStatus,
)

log = structlog.get_logger(__name__)

READY_TIMEOUT_S = 20.0
"""Longest start of a runtime in its sandbox, the first start of its zygote included."""
GONE_TIMEOUT_S = 30.0
"""How long `destroy` waits for the kernel; the launcher goes on trying afterwards."""


class ContainerDriver:
    """Sandboxes of one launcher. Ends with it: a launcher that has gone takes them all along.

    Attributes:
        leftovers: sandboxes of former workers that `adopt` destroyed.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._link = LauncherLink(launcher.channel, self._launcher_gone)
        self._last_key = 0
        self._live: dict[EnvironmentId, ContainerSandbox] = {}
        self._names: dict[int, EnvironmentId] = {}
        self._making: dict[EnvironmentId, asyncio.Event] = {}
        self._cells: dict[int, Cell] = {}
        self._gone: dict[int, asyncio.Event] = {}
        self._pools: dict[BlankClass, BlankPool] = {}
        self._is_closing = False
        self.leftovers = 0

    @property
    def isolation(self) -> Isolation:
        return Isolation.CONTAINER

    # --- create ---

    async def create(self, spec: SandboxSpec) -> Sandbox:
        await self._not_being_made(spec.id)
        known = self._live.get(spec.id)
        if known is not None:
            return known
        if self._is_closing:
            raise SandboxError("the container driver is closed")
        if spec.network is not Network.NONE:
            raise IsolationMissing(f"container sandboxes have no network {spec.network.value!r}")
        made = self._making[spec.id] = asyncio.Event()
        try:
            sandbox = await self._claim(spec) or await self._fork(spec)
            self._live[spec.id] = sandbox
            self._names[sandbox.cell.key] = spec.id
        finally:
            del self._making[spec.id]
            made.set()
        return sandbox

    async def _not_being_made(self, sandbox: EnvironmentId) -> None:
        """Wait for calls of `create` with the same id; each is bounded by its own deadlines."""
        while (making := self._making.get(sandbox)) is not None:
            await making.wait()

    async def _claim(self, spec: SandboxSpec) -> ContainerSandbox | None:
        """A blank with the spec's limits and code; None where there is none, or it was dead."""
        pool = self._pools.get(BlankClass(spec.tenant, spec.runtime, spec.network))
        cell = pool.take() if pool is not None else None
        if cell is None:
            return None
        key, began = cell.key, _now_us()
        try:
            async with _in_time(spec):
                answer = await self._link.request(
                    lambda n: protocol.Claim(n, key, _limits(spec), spec.code, spec.layers)
                )
        except BaseException as error:
            was_dead = cell.is_dying()
            await self._destroy_key(key)
            if was_dead and isinstance(error, SandboxError):
                return None
            raise
        phases = {**(answer.reply.phases_us or {}), "claim": _now_us() - began}
        return ContainerSandbox(spec.id, cell, SandboxStart("blank", phases))

    async def _fork(self, spec: SandboxSpec) -> ContainerSandbox:
        key, began = self._next_key(), _now_us()
        request = self._link.request(
            lambda n: protocol.Make(
                n, key, spec.tenant, spec.runtime, _limits(spec), spec.code, spec.layers
            )
        )
        # A callback takes the descriptors, so that a cancelled wait cannot lose them.
        request.add_done_callback(partial(self._forked, key))
        try:
            async with _in_time(spec):
                answer = await request
                cell, made = self._cells[key], _now_us()
                await cell.settled.wait()
            if cell.exit is not None:
                raise SandboxError(_why_dead(cell))  # noqa: TRY301  # cleaned up like any other
        except BaseException:
            await self._destroy_key(key)
            raise
        steps = {"launcher": made - began, "runtime": _now_us() - made}
        phases = {**(answer.reply.phases_us or {}), **steps}
        return ContainerSandbox(spec.id, cell, SandboxStart("fork", phases))

    def _forked(self, key: int, request: asyncio.Future[Answer]) -> None:
        if not request.cancelled() and request.exception() is None:
            self._cells[key] = Cell(key, request.result().fds, _nothing)

    def _next_key(self) -> int:
        self._last_key += 1
        return self._last_key

    # --- blanks ---

    async def keep_blanks(self, kind: BlankClass, count: int) -> None:
        pool = self._pools.get(kind)
        if pool is None:
            pool = self._pools[kind] = BlankPool(kind, self._begin_blank, self._discard)
        await pool.keep(count)

    def blanks(self) -> Mapping[BlankClass, int]:
        return {kind: len(pool) for kind, pool in self._pools.items() if len(pool)}

    def _begin_blank(self, pool: BlankPool) -> None:
        key, kind = self._next_key(), pool.kind
        request = self._link.request(
            lambda n: protocol.Make(n, key, kind.tenant, kind.runtime, protocol.BLANK_LIMITS, None)
        )
        request.add_done_callback(partial(self._blank_made, pool, key))

    def _blank_made(self, pool: BlankPool, key: int, request: asyncio.Future[Answer]) -> None:
        error = request.exception()
        if error is not None:
            pool.failed(SandboxError(f"no blank sandbox for {pool.kind.runtime}: {error}"))
            return
        cell = Cell(key, request.result().fds, partial(self._blank_changed, pool))
        self._cells[key] = cell
        loop = asyncio.get_running_loop()
        loop.call_later(READY_TIMEOUT_S, self._discard_unless_settled, cell)

    def _blank_changed(self, pool: BlankPool, cell: Cell) -> None:
        if cell.exit is None:
            pool.ready(cell)
        elif cell.is_ready:
            pool.lost(cell)
        else:
            pool.failed(SandboxError(_why_dead(cell)))
            self._discard(cell)

    def _discard_unless_settled(self, cell: Cell) -> None:
        if not cell.settled.is_set():
            self._discard(cell)

    # --- the end ---

    async def poll(self, sandbox: EnvironmentId) -> SandboxStatus | None:
        known = self._live.get(sandbox)
        if known is None:
            return None
        if known.cell.is_dying():
            known.cell.note_death()
        return SandboxStatus(sandbox, known.cell.exit)

    async def destroy(self, sandbox: EnvironmentId, *, grace_s: float = 0.0) -> None:
        await self._not_being_made(sandbox)
        known = self._live.get(sandbox)
        if known is None:
            return
        try:
            if grace_s > 0 and known.cell.exit is None:
                await self._ask_to_end(known, grace_s)
        finally:  # also when cancelled: it is on its way out then
            self._bury(known.cell.key)
        await self._destroy_key(known.cell.key)

    async def _ask_to_end(self, sandbox: ContainerSandbox, grace_s: float) -> None:
        key = sandbox.cell.key
        try:
            async with asyncio.timeout(grace_s):
                await self._link.request(lambda n: protocol.Terminate(n, key))
                await sandbox.cell.dead.wait()
        except TimeoutError:
            return

    async def _destroy_key(self, key: int) -> None:
        """Destroy a sandbox, claimed or not, known to the launcher or not."""
        gone = self._bury(key)
        try:
            async with asyncio.timeout(GONE_TIMEOUT_S):
                await gone.wait()
        except TimeoutError as error:
            raise SandboxError(
                f"a killed sandbox is still there after {GONE_TIMEOUT_S:g} s (a process waits in "
                "the kernel, mostly for a disk); the launcher goes on trying"
            ) from error

    def _discard(self, cell: Cell) -> None:
        self._bury(cell.key)

    def _bury(self, key: int) -> asyncio.Event:
        """Begin to destroy; the event is set when nothing is left. Idempotent."""
        gone = self._gone.get(key)
        if gone is None:
            gone = self._gone[key] = asyncio.Event()
            cell = self._cells.get(key)
            if cell is not None:
                cell.remember()
            request = self._link.request(lambda n: protocol.Destroy(n, key))
            request.add_done_callback(partial(self._buried, key))
        return gone

    def _buried(self, key: int, request: asyncio.Future[Answer]) -> None:
        if not request.cancelled():
            request.exception()  # the launcher has gone, and so has the sandbox
        cell = self._cells.pop(key, None)
        if cell is not None:
            cell.close()
        name = self._names.pop(key, None)
        if name is not None:
            del self._live[name]
        self._gone.pop(key).set()

    async def adopt(self) -> tuple[EnvironmentId, ...]:
        """Nothing can be re-attached: the channel of a sandbox ends with its worker."""
        answer = await self._link.request(protocol.Clean)
        self.leftovers += answer.reply.count
        if answer.reply.count:
            log.info("sandboxes_left_over_removed", count=answer.reply.count)
        return ()

    async def aclose(self) -> None:
        self._is_closing = True
        for pool in self._pools.values():
            pool.close()
        self._link.detach()
        try:
            await asyncio.to_thread(self._launcher.close)
        finally:
            self._link.close()
            for key in list(self._cells):
                self._bury(key)
            await asyncio.sleep(0)

    def _launcher_gone(self) -> None:
        """Frozen processes of version 1 die only once they are thawed."""
        if not self._is_closing:
            log.error("sandbox_launcher_ended", sandboxes=len(self._cells))
        for cell in self._cells.values():
            cell.set_frozen(frozen=False)


@asynccontextmanager
async def _in_time(spec: SandboxSpec) -> AsyncIterator[None]:
    """Bound the start of a sandbox.

    Raises:
        SandboxError: it took longer.
    """
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise SandboxError(
            f"{spec.runtime} was not ready in its sandbox after {READY_TIMEOUT_S:g} s"
        ) from error


def _why_dead(cell: Cell) -> str:
    if cell.failure is not None:
        return f"the sandbox could not be closed off: {cell.failure}"
    if cell.exit is not None and cell.exit.oom_killed:
        return "the runtime did not fit into the sandbox's memory limit"
    return f"the runtime ended before it was ready: {cell.exit}; it said: {cell.log_tail()!r}"


def _limits(spec: SandboxSpec) -> protocol.Limits:
    return protocol.Limits(spec.memory_mib, spec.cpu_millis, spec.pids_max, spec.ephemeral_mib)


def _now_us() -> int:
    return int(asyncio.get_running_loop().time() * 1e6)


def _nothing(cell: Cell) -> None:
    """A forked cell is watched by the call that made it."""
    del cell
