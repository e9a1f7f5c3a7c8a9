"""Python interpreters of this host: where they are, and which one runs a function.

An interpreter is believed only after it has run and said who it is: that sees through shims,
symbolic links and virtual environments. What was learnt is kept in ``<data_dir>/runtimes.json`` by
path and modification time, beside the interpreters that a user added.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pilotlight.config.settings import PREFIX, Settings
from pilotlight.model.errors import ConfigurationError
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.runtimes import HostRuntime, RuntimeChoice

log = logging.getLogger(__name__)

MINORS = range(9, 14)
"""Python versions that the guest runs on: 3.9 to 3.13."""
PROBE_TIMEOUT_S = 10.0
"""A healthy interpreter answers in 20 ms; a shim on a loaded machine in a second."""

_NAME = re.compile(r"python3\.([0-9]{1,3})")
_PROBE = (
    "import sys;"
    "print('\\n'.join((sys.implementation.name,'.'.join(map(str,sys.version_info[:3])),"
    "getattr(sys,'_base_executable','') or sys.executable,sys.base_prefix)))"
)


@dataclass(frozen=True, slots=True)
class _Known:
    """An earlier probe: when the file was last changed, and the runtime or None."""

    mtime_ns: int
    runtime: HostRuntime | None


class HostRuntimes:
    """The runtimes of this host; implements `pilotlight.ports.runtimes.Runtimes`.

    Looks once, at the first question; `add` and `remove` of another process are seen at the next
    start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.data_dir / "runtimes.json"
        self._known, self._added = _load(self._file)
        self._found: dict[RuntimeName, HostRuntime] | None = None
        self._has_news = False

    def installed(self) -> Mapping[RuntimeName, HostRuntime]:
        """All runtimes found, by name; the first call may take a second."""
        if self._found is None:
            self._found = self._discover()
            if self._has_news:
                self._save()
        return self._found

    def choose(self, wanted: RuntimeName) -> RuntimeChoice | None:
        """The runtime for a function, a substitute where allowed, else None."""
        installed = self.installed()
        if wanted in installed:
            return RuntimeChoice(installed[wanted], substituted=False)
        if not self._settings.substitutes:
            return None
        near = nearest(wanted, installed)
        return None if near is None else RuntimeChoice(installed[near], substituted=True)

    @property
    def substitutes(self) -> bool:
        """Whether a missing version is run on the nearest one."""
        return self._settings.substitutes

    @property
    def added(self) -> tuple[Path, ...]:
        """Interpreters a user added, in order."""
        return tuple(self._added)

    def add(self, path: Path) -> HostRuntime:
        """Use an interpreter from now on, before any other of its version. Kept; idempotent.

        Raises:
            ConfigurationError: it is no interpreter that we can use; says why.
        """
        where = path.expanduser().absolute()
        if not where.is_file():
            raise ConfigurationError(f"{where} is not there, or is not a file; name an interpreter")
        runtime = self._probe(where)
        if runtime is None:
            raise ConfigurationError(
                f"{where} is not a CPython from 3.{MINORS[0]} to 3.{MINORS[-1]} that runs; "
                f"try: {where} -I -S -c 'import sys; print(sys.version)'"
            )
        if where not in self._added:
            self._added.append(where)
        self._found = None
        self._save(required=True)
        return runtime

    def remove(self, name_or_path: str) -> tuple[Path, ...]:
        """Forget interpreters that a user added, by runtime name or by path; return them.

        Raises:
            ConfigurationError: no such interpreter was added.
        """
        gone = [
            path
            for path in self._added
            if name_or_path in (str(path), getattr(self._probe(path), "name", None))
        ]
        if not gone:
            added = ", ".join(map(str, self._added)) or "none"
            raise ConfigurationError(f"{name_or_path} was not added by you; added: {added}")
        self._added = [path for path in self._added if path not in gone]
        self._found = None
        self._save(required=True)
        return tuple(gone)

    def _discover(self) -> dict[RuntimeName, HostRuntime]:
        found: dict[RuntimeName, HostRuntime] = {}
        own = Path(sys.executable)
        for path in (*self._added, *self._settings.runtimes.extra, own):
            runtime = self._probe(path)
            if runtime is not None:
                found.setdefault(runtime.name, runtime)
        for minor in MINORS:
            name = RuntimeName(f"python3.{minor}")
            places = () if name in found else candidates(name)
            for path in places:
                runtime = self._probe(path)
                if runtime is not None and runtime.name == name:
                    found[name] = runtime
                    break
        return dict(sorted(found.items(), key=lambda item: minor_of(item[0]) or 0))

    def _probe(self, path: Path) -> HostRuntime | None:
        """Who an interpreter says it is; from memory unless its file changed."""
        try:
            mtime_ns = path.stat().st_mtime_ns
        except OSError:
            return None
        known = self._known.get(str(path))
        if known is None or known.mtime_ns != mtime_ns:
            known = _Known(mtime_ns, probe(path))
            self._known[str(path)] = known
            self._has_news = True
        runtime = known.runtime
        return runtime if runtime is not None and runtime.executable.exists() else None

    def _save(self, *, required: bool = False) -> None:
        """Keep what is known. Only what the user added must not get lost."""
        content = {
            "added": [str(path) for path in self._added],
            "probed": {path: _plain(known) for path, known in sorted(self._known.items())},
        }
        draft = self._file.with_suffix(f".{os.getpid()}")
        try:
            if required:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            _write_new(draft, json.dumps(content, indent=1) + "\n")
            draft.replace(self._file)
        except OSError as exc:
            if required:
                raise ConfigurationError(f"{self._file} cannot be written: {exc}") from exc


def nearest(wanted: RuntimeName, installed: Iterable[RuntimeName]) -> RuntimeName | None:
    """The closest version of the same language; of two at the same distance the newer one."""
    target = minor_of(wanted)
    if target is None:
        return None
    minors = [minor for name in installed if (minor := minor_of(name)) is not None]
    if not minors:
        return None
    return RuntimeName(f"python3.{min(minors, key=lambda m: (abs(m - target), -m))}")


def minor_of(name: str) -> int | None:
    """12 of ``python3.12``; None for another language."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def candidates(name: RuntimeName) -> Iterator[Path]:
    """Where a Python may be: the search path, then the places of pyenv, uv and /opt.

    Shims come last: they are slow, and which version they start depends on the directory.
    """
    shims: list[Path] = []
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found is not None:
            target = shims if Path(found).parent.name == "shims" else None
            if target is None:
                yield Path(found)
            else:
                target.append(Path(found))
    home = Path.home()
    for root, pattern in (
        (home / ".pyenv/versions", f"*/bin/{name}"),
        (home / ".local/share/uv/python", f"*/bin/{name}"),
        (Path("/opt"), f"*/bin/{name}"),
        (Path("/opt"), f"*/*/bin/{name}"),
    ):
        yield from sorted(root.glob(pattern), reverse=True)
    yield from shims


def probe(path: Path) -> HostRuntime | None:
    """Run an interpreter once and ask who it is; None where it is not one that we can use."""
    try:
        done = subprocess.run(  # noqa: S603  (JUSTIFICATION: an interpreter the operator has)
            [str(path), "-I", "-S", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={k: v for k, v in os.environ.items() if not k.startswith(PREFIX)},  # no root key
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    lines = done.stdout.split("\n")
    if len(lines) != 5 or lines[0] != "cpython":  # noqa: PLR2004  (four lines and the end)
        return None
    return _runtime(version=lines[1], executable=lines[2], prefix=lines[3])


def _runtime(*, version: str, executable: str, prefix: str) -> HostRuntime | None:
    parts = version.split(".")
    if parts[0] != "3" or not parts[1].isdigit() or int(parts[1]) not in MINORS:
        return None
    name = RuntimeName(f"python3.{parts[1]}")
    try:
        resolved = Path(executable).resolve(strict=True)
    except OSError:
        return None
    return HostRuntime(name, version, resolved, Path(prefix).resolve())


def _plain(known: _Known) -> dict[str, object]:
    runtime = known.runtime
    return {
        "mtime_ns": known.mtime_ns,
        "version": runtime.version if runtime else None,
        "executable": str(runtime.executable) if runtime else None,
        "prefix": str(runtime.prefix) if runtime else None,
    }


def _write_new(draft: Path, text: str) -> None:
    """Write a file that nobody prepared: the directory may belong to another user."""
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o644), "w", encoding="utf-8") as file:
        file.write(text)


def _load(file: Path) -> tuple[dict[str, _Known], list[Path]]:
    """What is kept; nothing where there is no file.

    Raises:
        ConfigurationError: the file is damaged; it may hold what a user added.
    """
    try:
        owner = file.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            # The data directory is the service user's. Whoever took that over could name programs
            # here, and the next start would run them as root.
            log.warning("runtimes_forgotten", extra={"file": str(file), "owner": owner})
            return {}, []
        content = json.loads(file.read_text())
        added = [Path(path) for path in content["added"]]
        known = {path: _known(row) for path, row in content["probed"].items()}
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigurationError(
            f"{file} is damaged ({exc}); remove it and add your runtimes again with: "
            "pilotlight runtime add PATH"
        ) from exc
    return known, added


def _known(row: Mapping[str, object]) -> _Known:
    mtime_ns = int(str(row["mtime_ns"]))
    if row["version"] is None:
        return _Known(mtime_ns, None)
    runtime = _runtime(
        version=str(row["version"]), executable=str(row["executable"]), prefix=str(row["prefix"])
    )
    return _Known(mtime_ns, runtime)
