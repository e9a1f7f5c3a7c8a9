"""The role ``all``: every component in one process, linked by method calls.

This is the one place where drivers and stores are chosen and the planes meet.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette

from pilotlight.control.api import Services
from pilotlight.control.configstore import AccountConfig, ConfigStore
from pilotlight.control.gateway import (
    CodeLinks,
    GatewayParts,
    RootCredentials,
    StaticAuthenticator,
    create_app,
)
from pilotlight.control.gateway.bodies import ByteBudget
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.identity import Directory, IdentityCalls
from pilotlight.control.placement import PlacementService, credit_limit
from pilotlight.control.registry import (
    BlobCollector,
    Functions,
    Transitions,
    UploadGuard,
    UsageLedger,
)
from pilotlight.control.registry.layers import Layers
from pilotlight.control.registry.mappings import MappingTransitions, mappings
from pilotlight.control.registry.signing import signing
from pilotlight.control.staging import Staging
from pilotlight.control.warmpools import BlankKeeper, BlankSettings
from pilotlight.dataplane.codecache import LocalCodeCache, open_code_cache
from pilotlight.dataplane.frontend.http import (
    HttpServer,
    HttpSettings,
    InvokeRoute,
    Listener,
    StreamingInvokeRoute,
    TlsFiles,
)
from pilotlight.dataplane.frontend.invoker import FrontendInvoker
from pilotlight.dataplane.frontend.settings import FrontendSettings
from pilotlight.dataplane.frontend.urls import URL_HOSTS, UrlRoute
from pilotlight.dataplane.sandboxes.container.driver import ContainerDriver
from pilotlight.dataplane.sandboxes.process import ProcessDriver
from pilotlight.dataplane.view import InProcessBarrier, RegistryView
from pilotlight.dataplane.worker.host import WorkerHost
from pilotlight.dataplane.worker.settings import WorkerSettings
from pilotlight.events.dispatch import Dispatcher, DispatchSettings, Fairness, Waits
from pilotlight.kernel.service import Part
from pilotlight.kernel.system import SystemClock, SystemIds
from pilotlight.model.function import Isolation
from pilotlight.model.ids import AccountId, RuntimeName
from pilotlight.observability.logstore import LogStore, LogStoreLimits
from pilotlight.observability.prometheus import PrometheusTelemetry
from pilotlight.ports.auth import Caller
from pilotlight.ports.functions import Kept
from pilotlight.ports.rates import RateLimits
from pilotlight.ports.sandbox import BlankClass, KeepsBlanks, SandboxDriver
from pilotlight.roles import memory, rates, reports, tokens
from pilotlight.roles.prepared import Prepared
from pilotlight.roles.protocols import protocols
from pilotlight.storage.audit import AuditSettings, SqlAuditLog, open_audit
from pilotlight.storage.blobs import LocalBlobStore
from pilotlight.storage.disk import DiskFloor, DiskGuard
from pilotlight.storage.packages import PackageIntake, blob_name
from pilotlight.storage.queue import SqlEventQueue, open_queue
from pilotlight.storage.registry import SqlRegistryStore, open_registry
from pilotlight.storage.sealing import open_sealer

_MIB = 1024 * 1024
_CACHE_BYTES = 50 * 1024 * _MIB
"""L1 of the mission: 50 GB on the worker's disk; the disk's floor stops it earlier."""


@dataclass(slots=True)
class AllInOne:
    """The parts of the role in their starting order, and how it drains."""

    parts: Sequence[Part]
    api: HttpServer
    urls: HttpServer
    invoker: FrontendInvoker
    dispatcher: Dispatcher
    drain_grace_s: float
    tls: TlsFiles | None = None
    is_ready: bool = field(default=False)

    @property
    def api_url(self) -> str:
        """Base URL of the API."""
        return self.api.url

    @property
    def urls_url(self) -> str:
        """Origin of function URLs by path."""
        return self.urls.url

    async def drain(self) -> None:
        """Take no new requests, and return when the running ones have ended."""
        self.is_ready = False
        async with asyncio.TaskGroup() as group:
            group.create_task(self.api.drain())
            group.create_task(self.urls.drain())
        self.dispatcher.drain()
        await self.invoker.drain(self.drain_grace_s)

    @staticmethod
    @asynccontextmanager
    async def open(prepared: Prepared) -> AsyncIterator[AllInOne]:
        """Open the stores, join everything, and close the stores when the block ends."""
        async with AsyncExitStack() as stack:
            yield await _Assembly(prepared, stack).build()


@dataclass(frozen=True, slots=True)
class _Stores:
    registry: SqlRegistryStore
    blobs: LocalBlobStore
    intake: PackageIntake
    cache: LocalCodeCache
    logs: LogStore
    audit: SqlAuditLog
    queue: SqlEventQueue


@dataclass(frozen=True, slots=True)
class _Control:
    functions: Functions
    guard: UploadGuard
    transitions: Transitions
    mapping_transitions: MappingTransitions
    staging: Staging
    collector: BlobCollector


class _Assembly:
    """Joins the components; each method makes one plane."""

    def __init__(self, prepared: Prepared, stack: AsyncExitStack) -> None:
        self._prepared = prepared
        self._settings = prepared.settings
        self._stack = stack
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._sealer = open_sealer(prepared.data.keys)
        self._account = AccountId(self._settings.account_id)
        self._tls = self._tls_files()
        self._logs = LogStore(prepared.data.logs, self._clock, self._log_limits())
        self._host: WorkerHost | None = None
        self._telemetry = PrometheusTelemetry(
            log_counts=self._logs.counts, states=self._environment_states
        )

    async def build(self) -> AllInOne:
        """Make everything; nothing runs yet."""
        stores = await self._stores()
        view = RegistryView(stores.registry, clock=self._clock, path=self._prepared.data.view)
        drivers = self._drivers()
        keeper = self._keeper(drivers)
        worker = self._worker(drivers, stores, keeper)
        self._host = worker
        placement = PlacementService(
            [worker],
            self._ids,
            lambda name: credit_limit(name, view.reservations, self._settings.concurrency_limit),
            default_isolation=self._settings.isolation,
            charge_mib=self._worker_settings().charge_mib,
        )
        invoker = FrontendInvoker(
            view,
            placement,
            {worker.worker: worker},
            self._telemetry,
            self._clock,
            FrontendSettings(),
        )
        dispatcher = self._dispatcher(stores, view, invoker)
        control = self._control(stores, view)
        directory = Directory(stores.registry, self._sealer)
        gate = StaticAuthenticator([self._root()], clock=self._clock, find=directory.find)
        urls = self._url_server(gate, view, invoker)
        limits = rates.control(self._settings, self._clock)
        role: AllInOne  # the readiness report looks at it once it is there
        app = create_app(
            GatewayParts(
                services=self._services(control, stores, invoker.kept, urls.address[1]),
                authenticator=gate,
                links=CodeLinks(self._root(), clock=self._clock),
                blobs=stores.blobs,
                blob_name=blob_name,
                logs=stores.logs,
                status=lambda: reports.status(self._prepared, drivers),
                environments=reports.environments(invoker),
                readiness=lambda: () if role.is_ready else ("starting or ending",),
                metrics=self._telemetry.exposition,
                is_local=self._settings.listen.is_loopback,
                rates=limits,
                protocols=protocols(
                    stores.registry, stores.logs, gate, limits, self._clock, control.staging
                ),
                tokens=tokens.gate(self._settings, self._clock),
                audit=stores.audit,
                native=[self._identities(stores, directory, gate, limits)],
                is_admin=self._is_admin,
            )
        )
        api = self._api_server(gate, view, invoker, stores, app)
        role = AllInOne(
            parts=[
                stores.logs, stores.audit, directory, view, control.transitions,
                control.mapping_transitions, control.staging, control.collector, placement, worker,
                *([keeper] if keeper is not None else []), invoker, stores.queue, dispatcher,
                *([self._tls] if self._tls is not None else []), urls, api,
            ],
            api=api,
            urls=urls,
            invoker=invoker,
            dispatcher=dispatcher,
            drain_grace_s=self._settings.drain_grace_s,
            tls=self._tls,
        )  # fmt: skip
        return role

    async def _stores(self) -> _Stores:
        data = self._prepared.data
        floor = DiskFloor(bytes=self._settings.disk_floor_mib * _MIB)
        guard = DiskGuard(data.root, floor)
        registry = await self._stack.enter_async_context(open_registry(data.registry, guard=guard))
        audit = await self._stack.enter_async_context(
            open_audit(data.audit, clock=self._clock, settings=self._audit_limits(), guard=guard)
        )
        queue = await self._stack.enter_async_context(
            open_queue(data.queue, clock=self._clock, guard=guard)
        )
        blobs = await LocalBlobStore.open(data.blobs, guard=guard)
        intake = PackageIntake(blobs, data.cache / "intake", floor=floor)
        cache = await open_code_cache(
            data.code, intake.unpack, self._interpreter_of, capacity_bytes=_CACHE_BYTES
        )
        return _Stores(registry, blobs, intake, cache, self._logs, audit, queue)

    def _control(self, stores: _Stores, view: RegistryView) -> _Control:
        barrier = InProcessBarrier([view])
        functions = Functions(stores.registry, barrier)
        guard = UploadGuard()
        transitions = Transitions(
            functions=functions,
            cache=stores.cache,
            barrier=barrier,
            runtimes=self._prepared.runtimes,
            clock=self._clock,
            ids=self._ids,
        )
        collector = BlobCollector(
            functions=functions,
            layers=Layers(stores.registry),
            blobs=stores.blobs,
            guard=guard,
            prefix="packages/",
            blob_name=blob_name,
        )
        mapping_transitions = MappingTransitions(mappings(stores.registry), self._clock)
        staging = Staging(stores.registry, stores.blobs, self._clock, self._ids)
        return _Control(functions, guard, transitions, mapping_transitions, staging, collector)

    def _is_admin(self, caller: Caller) -> bool:
        return caller.access_key == self._root().access_key

    def _identities(
        self,
        stores: _Stores,
        directory: Directory,
        gate: StaticAuthenticator,
        limits: RateLimits,
    ) -> IdentityCalls:
        return IdentityCalls(
            stores.registry,
            self._sealer,
            self._clock,
            directory,
            MeteredAuthenticator(gate, limits),
            is_admin=self._is_admin,
            budget=ByteBudget(1024 * 1024),
            root=self._account,
        )

    def _dispatcher(
        self, stores: _Stores, view: RegistryView, invoker: FrontendInvoker
    ) -> Dispatcher:
        waits = Waits(function_error_s=self._settings.async_.retry_base_delay_s)
        return Dispatcher(
            stores.queue,
            invoker,
            view,
            view,
            self._clock,
            self._ids,
            random.Random().random,  # noqa: S311  (waits, no secret)
            DispatchSettings(
                waits=waits, fairness=Fairness(slots=self._settings.concurrency_limit)
            ),
        )

    def _services(
        self,
        control: _Control,
        stores: _Stores,
        kept: Callable[[str, str, str], Kept],
        url_port: int,
    ) -> Services:
        limit = self._settings.concurrency_limit

        scheme = "http" if self._tls is None else "https"

        def url_of(url_id: str, region: str) -> str:
            return f"{scheme}://{url_id}.lambda-url.{region}.localhost:{url_port}/"

        return Services(
            functions=control.functions,
            usage=UsageLedger(stores.registry),
            layers=Layers(stores.registry),
            signing=signing(stores.registry),
            mappings=mappings(stores.registry),
            mapping_transitions=control.mapping_transitions,
            mapping_names=asyncio.Lock(),
            config=ConfigStore(stores.registry, AccountConfig(concurrent_executions=limit)),
            intake=stores.intake,
            transitions=control.transitions,
            guard=control.guard,
            staged=control.staging,
            sealer=self._sealer,
            clock=self._clock,
            ids=self._ids,
            kept=kept,
            url_of=url_of,
        )

    def _worker(
        self,
        drivers: Mapping[Isolation, SandboxDriver],
        stores: _Stores,
        keeper: BlankKeeper | None,
    ) -> WorkerHost:
        return WorkerHost(
            drivers,
            stores.cache,
            self._prepared.runtimes,
            stores.logs,
            self._telemetry,
            self._clock,
            self._worker_settings(),
            sealer=self._sealer,
            available_mib=memory.available_mib,
            sandbox_wanted=None if keeper is None else keeper.used,
        )

    def _url_server(
        self, gate: StaticAuthenticator, view: RegistryView, invoker: FrontendInvoker
    ) -> HttpServer:
        route = UrlRoute(
            gate=gate,
            view=view,
            invoker=invoker,
            clock=self._clock,
            ids=self._ids,
            scheme="http" if self._tls is None else "https",
        )
        hosts = (*URL_HOSTS, *sorted(self._settings.host_names))  # by host, and by path
        listener = Listener(
            settings=self._http(hosts), route=route, clock=self._clock, ids=self._ids
        )
        where = self._settings.url_address
        server = HttpServer(
            "urls", where.host, where.port, listener, reports.nothing_here, tls=self._context
        )
        route.port = server.address[1]
        return server

    def _api_server(
        self,
        gate: StaticAuthenticator,
        view: RegistryView,
        invoker: FrontendInvoker,
        stores: _Stores,
        app: Starlette,
    ) -> HttpServer:
        route = InvokeRoute(
            gate=gate,
            view=view,
            invoker=invoker,
            events=stores.queue,
            clock=self._clock,
            ids=self._ids,
            rates=rates.invoke(self._settings, self._clock),
        )
        hosts = tuple(sorted(self._settings.host_names))
        listener = Listener(
            settings=self._http(hosts),
            route=StreamingInvokeRoute(route),
            clock=self._clock,
            ids=self._ids,
        )
        where = self._settings.listen
        return HttpServer("api", where.host, where.port, listener, app, tls=self._context)

    def _environment_states(self) -> Mapping[str, int]:
        return {} if self._host is None else self._host.states()

    def _root(self) -> RootCredentials:
        keys = self._prepared.credentials
        return RootCredentials(self._account, keys.access_key_id, keys.secret_access_key)

    def _keeper(self, drivers: Mapping[Isolation, SandboxDriver]) -> BlankKeeper | None:
        """The runtime that runs Pilotlight is there for sure: its blanks are ready at the start."""
        keeping = [driver for driver in drivers.values() if isinstance(driver, KeepsBlanks)]
        if not keeping or not self._settings.blank_pool:
            return None
        first = BlankClass(self._account, reports.own_runtime())
        settings = BlankSettings(blank_pool=self._settings.blank_pool, always=(first,))
        return BlankKeeper(keeping[0], self._telemetry, self._clock, settings)

    def _drivers(self) -> Mapping[Isolation, SandboxDriver]:
        launcher = self._prepared.launcher
        if launcher is not None:
            return {Isolation.CONTAINER: ContainerDriver(launcher)}
        return {
            Isolation.PROCESS: ProcessDriver(
                code_root=self._prepared.data.code,
                runtimes=self._prepared.runtimes.installed(),
                guest_root=self._prepared.guest_root,
                instance=self._prepared.data.instance,
            )
        }

    def _interpreter_of(self, runtime: RuntimeName) -> Path | None:
        known = self._prepared.runtimes.installed().get(runtime)
        return None if known is None else known.executable

    def _worker_settings(self) -> WorkerSettings:
        settings = self._settings
        aws = settings.aws
        extra = {"AWS_ENDPOINT_URL": aws.endpoint_url} if aws.endpoint_url else {}
        return WorkerSettings(
            default_isolation=settings.isolation,
            keep_alive_s=settings.keep_alive_s,
            freeze_after_s=settings.freeze_after_s,
            memory_budget_mib=memory.budget_mib(),
            extra_environment=extra,
        )

    def _log_limits(self) -> LogStoreLimits:
        logs = self._settings.logs
        return LogStoreLimits(
            retention_days=logs.retention_days,
            max_bytes=logs.max_mib * _MIB,
            disk_floor_bytes=self._settings.disk_floor_mib * _MIB,
        )

    def _audit_limits(self) -> AuditSettings:
        audit = self._settings.audit
        return AuditSettings(retention_days=audit.retention_days, max_entries=audit.max_entries)

    def _tls_files(self) -> TlsFiles | None:
        tls = self._settings.tls
        if tls.certificate is None or tls.private_key is None:
            return None
        return TlsFiles(tls.certificate, tls.private_key)

    @property
    def _context(self) -> ssl.SSLContext | None:
        return None if self._tls is None else self._tls.context

    def _http(self, hosts: tuple[str, ...]) -> HttpSettings:
        return HttpSettings(allowed_hosts=hosts, drain_timeout_s=self._settings.drain_grace_s)
