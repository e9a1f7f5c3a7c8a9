"""A real control plane on a loopback port, without a data plane, for tests with real clients."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pilotlight.control.api import Services
from pilotlight.control.cloudwatch import LogGroups, LogsProtocol
from pilotlight.control.configstore import ConfigStore
from pilotlight.control.gateway import (
    CodeLinks,
    GatewayParts,
    RootCredentials,
    StaticAuthenticator,
    create_app,
)
from pilotlight.control.gateway.bodies import ByteBudget
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.identity import Directory, IdentityCalls, StsProtocol
from pilotlight.control.registry import (
    BlobCollector,
    Functions,
    Transitions,
    TransitionSettings,
    UploadGuard,
    UsageLedger,
)
from pilotlight.control.registry.layers import Layers
from pilotlight.control.registry.mappings import MappingTransitions, mappings
from pilotlight.control.registry.signing import signing
from pilotlight.control.staging import Staging, StagingProtocol
from pilotlight.dataplane.frontend.http import HttpServer, HttpSettings, Listener
from pilotlight.dataplane.frontend.http.answers import Answer
from pilotlight.dataplane.frontend.http.head import RequestHead
from pilotlight.dataplane.frontend.http.route import Call
from pilotlight.dataplane.view import InProcessBarrier, RegistryView
from pilotlight.kernel.service import Part, Stop, run_parts
from pilotlight.kernel.system import SystemClock, SystemIds
from pilotlight.model.errors import PackageRejected
from pilotlight.model.function import Code, merged_digest
from pilotlight.model.ids import AccountId, Digest, RuntimeName
from pilotlight.ports.blobs import BlobStore
from pilotlight.ports.code import AcceptedCode, CodeIntake
from pilotlight.ports.functions import Kept
from pilotlight.ports.registry import RegistryStore
from pilotlight.ports.runtimes import HostRuntime, RuntimeChoice
from pilotlight.ports.telemetry import GroupFacts, LogLine, LogQuery, StoredLine, StreamFacts
from pilotlight.storage.blobs import MemoryBlobStore
from pilotlight.storage.memory import MemoryRegistryStore
from pilotlight.testing.sealing import known_sealer

ACCOUNT = "000000000000"
ROOT = RootCredentials(AccountId(ACCOUNT), "AKIDPILOTLIGHTTEST00", "secret-of-the-control-plane")


def blob_name(digest: Digest) -> str:
    """Name of a package's blob, as the package intake gives it."""
    return f"packages/{digest}"


class PlainIntake:
    """A `CodeIntake` that only asks the zip library; nothing hostile is ever given to it."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def accept(self, package: bytes | Path) -> AcceptedCode:
        """See the port."""
        data = (
            package if isinstance(package, bytes) else await asyncio.to_thread(package.read_bytes)
        )
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise PackageRejected("corrupt", "not a zip")
        digest = hashlib.sha256(data)
        code = Code(
            sha256=base64.b64encode(digest.digest()).decode(),
            size_bytes=len(data),
            package=Digest(digest.hexdigest()),
        )
        await self._blobs.put(blob_name(code.package), data)
        return AcceptedCode(code, unzipped_bytes=len(data), files=1)


class PlainCache:
    """A `CodeCache` that has whatever the blob store has.

    ``fault`` is raised by the next calls while it is set; ``gate`` holds them back while clear.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def ensure(self, code: Digest, runtime: RuntimeName | None) -> Path:  # noqa: ARG002
        """See the port."""
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        await self._blobs.get(blob_name(code))
        return Path("/nowhere") / code

    async def ensure_merged(self, packages: Sequence[Digest], runtime: RuntimeName | None) -> Path:
        """See the port."""
        for package in packages:
            await self.ensure(package, runtime)
        return Path("/nowhere") / merged_digest(packages)

    def is_cached(self, code: Digest) -> bool:  # noqa: ARG002
        """See the port."""
        return True


class NoRuntimes:
    """A host without interpreters."""

    def installed(self) -> Mapping[RuntimeName, HostRuntime]:
        """See the port."""
        return {}

    def choose(self, wanted: RuntimeName) -> RuntimeChoice | None:  # noqa: ARG002
        """See the port."""
        return None


class FixedLogs:
    """A `LogReader` with lines given beforehand."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.queries: list[LogQuery] = []

    async def read(self, query: LogQuery) -> tuple[StoredLine, ...]:
        """See the port; only function and ``after_id`` matter here."""
        self.queries.append(query)
        return tuple(
            StoredLine(number, line)
            for number, line in enumerate(self.lines, 1)
            if line.function == query.function and number > query.after_id
        )

    async def groups(self, account: str) -> tuple[GroupFacts, ...]:
        """See the port."""
        known = [line for line in self.lines if line.account == account]
        names = sorted({line.log_group for line in known})
        return tuple(
            GroupFacts(name, min(line.wall_s for line in known if line.log_group == name))
            for name in names
        )

    async def streams(self, account: str, group: str) -> tuple[StreamFacts, ...]:
        """See the port."""
        times: dict[tuple[str, str], list[float]] = {}
        for line in self.lines:
            if (line.account, line.log_group) == (account, group):
                times.setdefault((line.function, line.stream), []).append(line.wall_s)
        return tuple(StreamFacts(*key, min(times[key]), max(times[key])) for key in sorted(times))


@dataclass(slots=True)
class ControlPlane:
    """The parts, not running; `serve` runs them."""

    store: RegistryStore = field(default_factory=MemoryRegistryStore)
    blobs: BlobStore = field(default_factory=MemoryBlobStore)
    intake: CodeIntake | None = None
    view_path: Path | None = None
    update_shows_s: float = 0.2
    cache: PlainCache = field(init=False)
    logs: FixedLogs = field(init=False, default_factory=FixedLogs)
    view: RegistryView = field(init=False)
    services: Services = field(init=False)
    functions: Functions = field(init=False)
    transitions: Transitions = field(init=False)
    mapping_transitions: MappingTransitions = field(init=False)
    directory: Directory = field(init=False)
    staging: Staging = field(init=False)
    collector: BlobCollector = field(init=False)
    gateway: GatewayParts = field(init=False)
    port: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        clock, ids, guard = SystemClock(), SystemIds(), UploadGuard()
        self.cache = PlainCache(self.blobs)
        self.view = RegistryView(self.store, clock=clock, path=self.view_path)
        barrier = InProcessBarrier([self.view])
        self.functions = Functions(self.store, barrier)
        self.transitions = Transitions(
            functions=self.functions,
            cache=self.cache,
            barrier=barrier,
            runtimes=NoRuntimes(),
            clock=clock,
            ids=ids,
            settings=TransitionSettings(update_shows_s=self.update_shows_s),
        )
        self.collector = BlobCollector(
            functions=self.functions,
            layers=Layers(self.store),
            blobs=self.blobs,
            guard=guard,
            prefix="packages/",
            blob_name=blob_name,
        )
        self.mapping_transitions = MappingTransitions(mappings(self.store), clock)
        self.staging = Staging(self.store, self.blobs, clock, ids)
        self.services = Services(
            functions=self.functions,
            usage=UsageLedger(self.store),
            layers=Layers(self.store),
            signing=signing(self.store),
            mappings=mappings(self.store),
            mapping_transitions=self.mapping_transitions,
            mapping_names=asyncio.Lock(),
            config=ConfigStore(self.store),
            intake=self.intake or PlainIntake(self.blobs),
            transitions=self.transitions,
            guard=guard,
            staged=self.staging,
            sealer=known_sealer(),
            clock=clock,
            ids=ids,
            kept=lambda *_: Kept(),
            url_of=lambda url_id, region: f"http://{url_id}.lambda-url.{region}.localhost:9701/",
        )
        self.gateway = GatewayParts(
            services=self.services,
            authenticator=StaticAuthenticator([ROOT], clock=clock),
            links=CodeLinks(ROOT, clock=clock),
            blobs=self.blobs,
            blob_name=blob_name,
            logs=self.logs,
            status=lambda: {"version": "test", "isolation": "memory", "runtimes": {}},
            environments=_no_environments,
            readiness=lambda: (),
            metrics=lambda: (b"up 1\n", "text/plain; version=0.0.4"),
        )
        self.directory = Directory(self.store, known_sealer())
        gate = StaticAuthenticator([ROOT], clock=clock, find=self.directory.find)
        metered = MeteredAuthenticator(gate)
        identities = IdentityCalls(
            self.store,
            known_sealer(),
            clock,
            self.directory,
            metered,
            is_admin=lambda caller: caller.access_key == ROOT.access_key,
            budget=ByteBudget(1024 * 1024),
            root=ACCOUNT,
        )
        groups = LogGroups(self.store, self.logs, clock)
        budget = ByteBudget(1024 * 1024)
        self.with_gateway(
            authenticator=gate,
            native=[identities],
            protocols={
                "logs": LogsProtocol(groups, self.logs, metered, budget).respond,
                "sts": StsProtocol(metered, budget).respond,
                "s3": StagingProtocol(self.staging, metered, ByteBudget(2**28)).respond,
            },
        )

    @property
    def origin(self) -> str:
        """Base URL of the running listener."""
        return f"http://127.0.0.1:{self.port}"

    def client_settings(self, region: str = "us-east-1") -> dict[str, str]:
        """Keyword arguments for a boto3 client."""
        return {
            "endpoint_url": self.origin,
            "region_name": region,
            "aws_access_key_id": ROOT.access_key,
            "aws_secret_access_key": ROOT.secret_key,
        }

    def parts(self) -> list[Part]:
        """What has to run beside the listener."""
        return [
            self.directory,
            self.staging,
            self.view,
            self.transitions,
            self.mapping_transitions,
            self.collector,
        ]

    def with_gateway(self, **changes: object) -> None:
        """Replace fields of the gateway's dependencies."""
        self.gateway = replace(self.gateway, **changes)  # type: ignore[arg-type]  # names are the caller's


async def _no_environments(account: str, name: str) -> Sequence[Mapping[str, object]]:  # noqa: ARG001
    return ()


class _Nothing:
    """A `Route` that leaves every request to the application."""

    def open(self, head: RequestHead) -> Call | Answer | None:  # noqa: ARG002
        """See the port."""
        return None


class _Listener:
    """The product's listener on a loopback port of the kernel's choice, as a `Part`."""

    name = "listener"

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def run(self, ready: Callable[[], None]) -> None:
        """See `Part`."""
        listener = Listener(
            settings=HttpSettings(sweep_period_s=0.1, drain_timeout_s=1.0),
            route=_Nothing(),
            clock=SystemClock(),
            ids=SystemIds(),
        )
        server = HttpServer("api", "127.0.0.1", 0, listener, create_app(self._plane.gateway))
        self._plane.port = server.address[1]
        await server.run(ready)


@contextmanager
def serving(make: Callable[[], ControlPlane] = ControlPlane) -> Iterator[ControlPlane]:
    """Run a control plane in a thread of its own while the block runs.

    Args:
        make: makes the control plane; called in the thread's loop.
    """
    started, stop = threading.Event(), Stop()
    planes: list[ControlPlane] = []
    loops: list[asyncio.AbstractEventLoop] = []
    faults: list[BaseException] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        plane = make()
        planes.append(plane)
        await run_parts([*plane.parts(), _Listener(plane)], stop=stop, started=started.set)

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as fault:  # noqa: BLE001  handed to the test's thread
            faults.append(fault)
        finally:
            started.set()

    thread = threading.Thread(target=body, name="control-plane")
    thread.start()
    try:
        started.wait(20)
        if faults:
            raise faults[0]
        yield planes[0]
    finally:
        if not faults and loops:
            loops[0].call_soon_threadsafe(stop.ask)
        thread.join(20)
    if faults:
        raise faults[0]
