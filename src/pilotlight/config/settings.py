"""What an operator can set, where it is read from, and what is allowed (design, section 5).

Sources, the later one stronger: ``pilotlight.toml``, ``PILOTLIGHT_…`` variables (a double
underscore between group and key), flags of the command line. An unknown key is an error in all.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pilotlight.config.parsers import (
    Address,
    address,
    boolean,
    integer,
    list_of,
    matching,
    number,
    one_of,
    optional,
    path,
    some_of,
)
from pilotlight.config.schema import Given, Layer, build, flatten, key, read_toml, refuse, specs
from pilotlight.model import limits
from pilotlight.model.errors import ConfigurationError
from pilotlight.model.isolation import Isolation

CONFIG_FILE = "pilotlight.toml"
PREFIX = "PILOTLIGHT_"
CLIENT_VARIABLES = frozenset({"PILOTLIGHT_CONFIG", "PILOTLIGHT_ENDPOINT_URL"})
"""Variables that are not settings: where the file is, and where a client finds the server."""

CAN_BE_MISSING = frozenset({"memory", "pids", "cpu", "disk"})
"""Limits an operator may knowingly do without. Walls (namespaces, seccomp, capabilities) are not
among them: without walls there is ``--isolation process``, which says so in its name."""

NOT_FOR_USERS = frozenset({Isolation.MEMORY})
"""The executable specification of a driver: it runs no code, so no function can have it."""

_ACCESS_KEY = matching(r"\w{16,128}", "16 to 128 letters, digits or underscores")
_SECRET_KEY = matching(r"[!-~]{16,128}", "16 to 128 printable characters without blanks")
_REGION = matching(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}", "a region name such as eu-central-1")
_HTTP_URL = matching(
    r"https?://[^\s/?#]+(/[^\s?#]*)?", "a URL that starts with http:// or https://"
)
_ISSUER = matching(
    r"https://[^\s/?#]+(/[^\s?#]*)?|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/[^\s?#]*)?",
    "https URL",
)
_TOKEN_RULE = matching(r"[^=&\s]+=[^&]+(&[^=&\s]+=[^&]+)*", "CLAIM=PATTERN")
_HOST_NAME = matching(r"[A-Za-z0-9.\[\]:-]+|\*", "host name")


class Role(StrEnum):
    """Sets of parts that one process can run; ``all`` is the whole platform."""

    ALL = "all"


class LogOutput(StrEnum):
    """Form of Pilotlight's own log on standard error."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """Least severe event that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """``[aws]``: the outside AWS-compatible services that sources, destinations and functions use."""

    endpoint_url: str | None = key(
        None, optional(_HTTP_URL), "Where they are; none means that functions get no endpoint."
    )
    region: str | None = key(None, optional(_REGION), "Their region where it is not ours.")
    access_key_id: str | None = key(None, optional(_ACCESS_KEY), "Key for them; none: unsigned.")
    secret_access_key: str | None = key(
        None, optional(_SECRET_KEY), "Secret that belongs to the key.", is_secret=True
    )
    session_token: str | None = key(
        None,
        optional(matching(r"[!-~]{1,4096}", "printable characters without blanks")),
        "Token of temporary credentials.",
        is_secret=True,
    )


@dataclass(frozen=True, slots=True)
class AsyncSettings:
    """``[async]``: asynchronous invocations."""

    retry_base_delay_s: float = key(
        60.0,
        number(0.001, 3600),
        "Wait before the first retry; AWS waits one minute, tests want less.",
        unit="s",
    )


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """``[runtimes]``: interpreters of this host."""

    substitute: bool | None = key(
        None,
        optional(boolean()),
        "Run a missing version on the nearest one; by default only on a loopback all-in-one, "
        "where nobody else depends on the exact version.",
    )
    extra: tuple[Path, ...] = key(
        (), list_of(path(), "paths of interpreters"), "Interpreters in places we do not look at."
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``[logs]``: function logs, and the platform's own."""

    retention_days: int = key(
        14, integer(1, 3660), "Older function logs are removed; two weeks outlive a bug hunt.",
        unit="days",
    )  # fmt: skip
    max_mib: int = key(
        1024, integer(64, 1 << 20), "The oldest are removed beyond this; a laptop has the room.",
        unit="MiB",
    )  # fmt: skip
    output: LogOutput = key(
        LogOutput.AUTO, one_of(LogOutput), "Form of our own log; auto: console on a terminal."
    )
    level: LogLevel = key(
        LogLevel.INFO, one_of(LogLevel), "Least severe event logged; info: every change of state."
    )


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """``[oidc]``: bearer tokens for the native API and the control plane."""

    issuers: tuple[str, ...] = key(
        (),
        list_of(_ISSUER, "https URLs (http on this machine)"),
        "Whose tokens are believed, as they name themselves in iss; none: no tokens.",
    )
    audience: str | None = key(
        None, optional(matching(r"[!-~]{1,256}", "text without blanks")), "Must be among their aud."
    )
    allow: tuple[str, ...] = key(
        (),
        list_of(_TOKEN_RULE, "CLAIM=PATTERN, several joined with &"),
        "One of these must match, * is any text: CI issuers sign tokens for everybody.",
    )
    principal_claim: str = key(
        "sub",
        matching(r"[A-Za-z0-9_:./-]{1,128}", "name of a claim"),
        "Claim that names the caller.",
    )


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """``[tls]``: encryption of both listeners; looked at again every few seconds and on SIGHUP."""

    certificate: Path | None = key(
        None, optional(path()), "PEM file of the chain, our own certificate first; none: no TLS."
    )
    private_key: Path | None = key(
        None, optional(path()), "PEM file of its key, readable by the user that we run as."
    )


@dataclass(frozen=True, slots=True)
class AuditLogSettings:
    """``[audit]``: the log of calls to the control plane."""

    retention_days: int = key(
        90, integer(1, 3660), "Older entries are removed; a quarter, as CloudTrail shows.",
        unit="days",
    )  # fmt: skip
    max_entries: int = key(
        5_000_000, integer(1000, 1_000_000_000), "The oldest are removed beyond; about 300 B each.",
        unit="entries",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """``[limits]``: how often an account may call (429 ``CallerRateLimitExceeded`` beyond it)."""

    control_per_s: float = key(
        2000.0, number(0.1, 1_000_000), "Control-plane calls of an account, all services together.",
        unit="1/s",
    )  # fmt: skip
    control_burst: int = key(
        4000, integer(1, 1_000_000), "How many of them may come at once after a pause.",
        unit="calls",
    )  # fmt: skip
    invoke_per_s: float | None = key(
        None,
        optional(number(0.1, 10_000_000)),
        "Signed invocations of an account; none: ten times concurrency_limit, as on Lambda.",
        unit="1/s",
    )
    invoke_burst: int | None = key(
        None,
        optional(integer(1, 10_000_000)),
        "How many of them may come at once after a pause; none: those of one second.",
        unit="calls",
    )
    key_share: float = key(
        1.0, number(0.001, 1), "Part of its account's rates and bursts that one key may use."
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. After `load_settings`, paths are absolute and it is consistent."""

    data_dir: Path = key(
        Path(".pilotlight"), path(), "All state is below it; beside the project by default."
    )
    role: Role = key(Role.ALL, one_of(Role), "Which parts this process runs.")
    listen: Address = key(
        Address("127.0.0.1", 9700), address(), "API, console, metrics; this machine only."
    )
    url_listen: Address | None = key(
        None, optional(address()), "Function URLs, an origin of their own; one port above listen."
    )
    allowed_hosts: tuple[str, ...] = key(
        (),
        list_of(_HOST_NAME, "host names (without port), or *"),
        "Host headers answered besides localhost and the listening address: stops DNS rebinding.",
    )
    account_id: str = key(
        "0" * 12, matching(r"[0-9]{12}", "twelve digits"), "Account of the root credentials."
    )
    region: str = key("us-east-1", _REGION, "Region where a request's signature names none.")
    root_access_key_id: str | None = key(
        None, optional(_ACCESS_KEY), "Root key; generated on first start where none is given."
    )
    root_secret_access_key: str | None = key(
        None, optional(_SECRET_KEY), "Secret that belongs to the root key.", is_secret=True
    )
    isolation: Isolation = key(
        Isolation.CONTAINER,
        one_of(Isolation, without=NOT_FOR_USERS),
        "For functions that choose none; never weakened.",
    )
    allow_missing: frozenset[str] = key(
        frozenset(), some_of(CAN_BE_MISSING), "Limits to do without where the host lacks them."
    )
    concurrency_limit: int = key(
        limits.ACCOUNT_CONCURRENCY,
        integer(1, 100_000),
        "Invocations an account may have running; the service's own default.",
        unit="invocations",
    )
    keep_alive_s: float = key(
        600.0, number(1, 86_400), "How long an idle environment is kept; ten minutes as on Lambda.",
        unit="s",
    )  # fmt: skip
    freeze_after_s: float = key(
        0.1, number(0, 3600), "An environment idle this long is frozen (D9).", unit="s"
    )
    blank_pool: int = key(
        2, integer(0, 256), "Blank sandboxes kept ready for each runtime: a cold burst of two.",
        unit="sandboxes",
    )  # fmt: skip
    drain_grace_s: float = key(
        30.0, number(0, 3600), "How long running invocations may finish after SIGTERM.", unit="s"
    )
    disk_floor_mib: int = key(
        256, integer(0, 1 << 20), "Below this free space writes are refused before anything breaks.",
        unit="MiB",
    )  # fmt: skip
    service_uid: int = key(
        59_700, integer(1, 2**31), "User that everything but the launcher becomes, started as root."
    )
    service_gid: int = key(59_700, integer(1, 2**31), "Group of that user.")
    demo: bool = key(
        False, boolean(), "Deploy and invoke a sample function once ready."  # noqa: FBT003
    )  # fmt: skip
    aws: AwsSettings = AwsSettings()
    async_: AsyncSettings = AsyncSettings()
    runtimes: RuntimeSettings = RuntimeSettings()
    logs: LogSettings = LogSettings()
    limits: LimitSettings = LimitSettings()
    audit: AuditLogSettings = AuditLogSettings()
    tls: TlsSettings = TlsSettings()
    oidc: OidcSettings = OidcSettings()

    @property
    def url_address(self) -> Address:
        """Where function URLs listen: as set, else one port above the API (port 0 stays 0)."""
        if self.url_listen is not None:
            return self.url_listen
        return Address(self.listen.host, self.listen.port + 1 if self.listen.port else 0)

    @property
    def host_names(self) -> frozenset[str]:
        """Host headers the API answers to, without port, lower case; ``*`` means any."""
        own = {"localhost", "127.0.0.1", "[::1]", str(self.listen).rpartition(":")[0]}
        return frozenset(name.lower() for name in own | set(self.allowed_hosts))

    @property
    def substitutes(self) -> bool:
        """A missing runtime is run on the nearest version."""
        if self.runtimes.substitute is not None:
            return self.runtimes.substitute
        return self.role == "all" and self.listen.is_loopback


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Read all sources, check everything, and return what holds.

    Args:
        flags: by key; those that are None were not given.
        config_file: must exist; None looks for ``pilotlight.toml`` in the directory.
        environment: the process's own by default.
        directory: where relative paths start, the current one by default.

    Raises:
        ConfigurationError: every fault of every source, each with its place and what is allowed.
    """
    variables = os.environ if environment is None else environment
    start = (directory or Path.cwd()).absolute()
    layers = [
        _from_file(config_file, variables, start),
        _from_variables(variables, start),
        _from_flags(flags or {}, start),
    ]
    settings = build(Settings, layers, what="The configuration")
    refuse(list(_contradictions(settings)), what="The configuration")
    return dataclasses.replace(settings, data_dir=start / settings.data_dir)


def _from_file(given: Path | None, variables: Mapping[str, str], start: Path) -> Layer:
    from_variable = variables.get("PILOTLIGHT_CONFIG")
    named = given or (Path(from_variable) if from_variable else None)
    where = start / (named or CONFIG_FILE)
    if not where.is_file():
        if named is not None:
            raise ConfigurationError(f"There is no configuration file {where}.")
        return Layer({})
    return Layer(flatten(read_toml(where), Settings, str(where)), where.parent)


def _from_variables(variables: Mapping[str, str], start: Path) -> Layer:
    values = {
        name.removeprefix(PREFIX).lower().replace("__", "."): Given(value, name)
        for name, value in sorted(variables.items())
        if name.startswith(PREFIX) and name not in CLIENT_VARIABLES
    }
    return Layer(values, start)


def _from_flags(flags: Mapping[str, object], start: Path) -> Layer:
    values = {
        name: Given(value, "--" + name.replace(".", "-").replace("_", "-"))
        for name, value in flags.items()
        if value is not None
    }
    return Layer(values, start)


def _contradictions(settings: Settings) -> list[str]:
    """Faults that no single key has."""
    faults: list[str] = []
    if (settings.root_access_key_id is None) != (settings.root_secret_access_key is None):
        faults.append("root_access_key_id and root_secret_access_key: give both or neither")
    if (settings.aws.access_key_id is None) != (settings.aws.secret_access_key is None):
        faults.append("[aws] access_key_id and secret_access_key: give both or neither")
    oidc = settings.oidc
    if oidc.issuers and not (oidc.audience and oidc.allow):
        faults.append("[oidc] issuers need an audience and allow: else any token would do")
    if (settings.tls.certificate is None) != (settings.tls.private_key is None):
        faults.append("[tls] certificate and private_key: give both or neither")
    if settings.listen.port and settings.url_address == settings.listen:
        faults.append(f"url_listen = {settings.listen}; allowed: another port than listen has")
    if settings.url_address.port > 65535:  # noqa: PLR2004  (the highest port)
        faults.append("listen has the highest port; give url_listen a port of its own")
    if settings.listen.host in {"0.0.0.0", "::"} and not settings.allowed_hosts:  # noqa: S104
        faults.append(
            f"listen = {settings.listen} takes requests for any name; "
            "give allowed_hosts the names that clients use"
        )
    return faults


def document() -> str:
    """The content of ``docs/configuration.md``."""
    return (
        "# Configuration\n\n"
        "This page is made from `pilotlight.config.settings`; a test keeps it fresh.\n\n"
        "Sources, the later one stronger: `pilotlight.toml`, `PILOTLIGHT_…` variables with a "
        "double underscore between group and key\n(`PILOTLIGHT_AWS__ENDPOINT_URL`), flags of "
        "`pilotlight up`. A dot below separates group and key: `async.retry_base_delay_s`\nis "
        "`retry_base_delay_s` in the table `[async]`. An unknown key is an error, and all faults "
        "are reported at once.\n\n" + settings_table()
    )


def settings_table() -> str:
    """All settings as a Markdown table."""
    rows = ["| key | default | unit | allowed | why |", "| --- | --- | --- | --- | --- |"]
    for name, spec, default in specs(Settings):
        rows.append(
            f"| `{name}` | {_shown(default)} | {spec.unit} | {spec.parser.allowed} | {spec.reason} |"
        )
    return "\n".join(rows) + "\n"


def _shown(default: object) -> str:
    if default is None or default in ((), frozenset()):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"
