"""A recording file layer: what would be on the disk if the power failed at any moment.

A program is run under ``strace`` and every system call that changes files below a folder is
recorded, in order, with its data: the program and its libraries are the product's own, unchanged.
`Disk` then replays a prefix of the record onto a model of a disk that keeps nothing but what was
synced, or that besides keeps some of the rest, torn at the size of a sector.

The model is stricter than common file systems: contents survive only after the file was synced, a
name only after its folder was; a rename between folders is two changes. Changes of one folder
become durable in their order, writes to one file in any order.

Limits: calls of different threads that overlap are ordered by their ends, and a sync covers what
had ended when it began. Writes through shared memory maps are not seen and are an error, except
SQLite's ``-shm`` files, which recovery rebuilds and never reads. Calls that the model does not know
are an error too, so that it cannot be silently incomplete. What a disk itself may lie about, and
reads, are out of scope.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

_CALLS = (
    "openat,open,creat,close,dup,dup2,dup3,lseek,write,pwrite64,writev,pwritev,pwritev2,fsync,"
    "fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,"
    "ftruncate,truncate,fallocate,link,linkat,symlink,symlinkat,copy_file_range,sendfile,splice,mmap"
)
_HARMLESS = {"close", "chmod", "sync_file_range"}
_IGNORED_END = "-shm"
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\w+)")
_UNFINISHED = re.compile(r"(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_MISSED = "the recording does not understand"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written to a file."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """A file cut or extended."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Name:
    """Names of one folder changed together: name to file or folder, None for a removal."""

    folder: int
    names: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Sync:
    """A file or folder synced, with everything that was recorded before ``since``."""

    file: int
    since: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The program said something: a line appended to the marks file."""

    text: str


Event = Write | Resize | Name | Sync | Mark

ROOT = 0
"""The folder that is recorded; files and folders below are numbered as they appear."""


def record(command: Sequence[str], root: Path, log: Path) -> Recording:
    """Run a command to its end and record what it does below ``root``, which must be empty.

    Lines that it appends to ``<root>/marks`` become marks.

    Raises:
        AssertionError: the command failed, or did something the model does not know.
    """
    tracer = shutil.which("strace")
    if tracer is None:
        raise AssertionError("strace is needed: install the package of that name")
    options = ["-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={_CALLS}", "-o", str(log)]
    done = subprocess.run(  # noqa: S603  # the tests' own command
        [tracer, *options, "--", *command], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    reader = _Reader(root.resolve())
    with log.open(encoding="ascii") as lines:
        for line in lines:
            reader.take(line.rstrip("\n"))
    return Recording(tuple(reader.events), frozenset(reader.folders), reader.first_paths)


@dataclass(frozen=True, slots=True)
class Recording:
    """All events in order, which numbers are folders, and the first path of each, from the root."""

    events: tuple[Event, ...]
    folders: frozenset[int]
    paths: Mapping[int, str]

    def without_syncs(self, drop: Callable[[str], bool]) -> Recording:
        """The same without the syncs of some paths: to show that a test notices."""

        def left(event: Event) -> Event:
            # Replaced and not removed: syncs refer to places in the order.
            gone = isinstance(event, Sync) and drop(self.paths[event.file])
            return Mark("") if gone else event

        return Recording(tuple(map(left, self.events)), self.folders, self.paths)

    def crashes(self, chance: random.Random | None = None) -> Iterator[tuple[Disk, list[str]]]:
        """The disk and the marks at each moment the power may fail.

        Without ``chance`` the disk keeps nothing unsynced, and moments that cannot be told from
        the one before are left out.
        """
        disk, marks = Disk(self.folders), list[str]()
        yield disk, marks
        for index, event in enumerate(self.events):
            if isinstance(event, Mark):
                marks.append(event.text)
            else:
                disk.apply(index, event)
            if chance is not None or isinstance(event, Sync | Mark):
                yield disk, marks


@dataclass(slots=True)
class _Stored:
    """A file or folder: what is durable, and what has been done since, with its place in time."""

    body: bytes = b""
    names: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[int, Event]] = field(default_factory=list)


class Disk:
    """What was synced, and what was not."""

    def __init__(self, folders: frozenset[int]) -> None:
        self._folders = folders
        self._stored: dict[int, _Stored] = {ROOT: _Stored()}

    def apply(self, index: int, event: Write | Resize | Name | Sync) -> None:
        """Do what was recorded at ``index``."""
        number = event.folder if isinstance(event, Name) else event.file
        stored = self._stored.setdefault(number, _Stored())
        if not isinstance(event, Sync):
            stored.waiting.append((index, event))
            return
        done = [change for at, change in stored.waiting if at < event.since]
        stored.waiting = [(at, change) for at, change in stored.waiting if at >= event.since]
        stored.body, stored.names = _changed(stored, done)

    def materialise(self, target: Path, chance: random.Random | None = None) -> None:
        """Write the disk's state into an empty folder; with ``chance`` some unsynced changes too."""
        self._write(ROOT, target, chance)

    def _write(self, number: int, target: Path, chance: random.Random | None) -> None:
        stored = self._stored.get(number, _Stored())
        kept = [] if chance is None else list(_survivors(stored.waiting, chance))
        body, names = _changed(stored, kept)
        if number not in self._folders:
            target.write_bytes(body)
            return
        target.mkdir(exist_ok=True)
        for name, child in names.items():
            self._write(child, target / name, chance)


def _changed(stored: _Stored, changes: Iterable[Event]) -> tuple[bytes, dict[str, int]]:
    body, names = bytearray(stored.body), dict(stored.names)
    for change in changes:
        match change:
            case Write(_, offset, data):
                body.extend(bytes(max(0, offset + len(data) - len(body))))
                body[offset : offset + len(data)] = data
            case Resize(_, size):
                body = body[:size] + bytes(max(0, size - len(body)))
            case Name(_, pairs):
                for name, child in pairs:
                    if child is None:
                        names.pop(name, None)
                    else:
                        names[name] = child
            case _:
                raise AssertionError(change)
    return bytes(body), names


def _survivors(waiting: list[tuple[int, Event]], chance: random.Random) -> Iterator[Event]:
    """A choice of unsynced changes: names up to some moment, any writes, some of them torn."""
    names_until = chance.choice([0, *(index + 1 for index, _ in waiting)])
    for index, change in waiting:
        if isinstance(change, Name):
            if index < names_until:
                yield change
        elif chance.randrange(2):
            yield from _torn(change, chance)


def _torn(change: Event, chance: random.Random) -> Iterator[Event]:
    if not isinstance(change, Write) or chance.randrange(2):
        yield change
        return
    end = change.offset + len(change.data)
    for start in range(change.offset // SECTOR * SECTOR, end, SECTOR):
        if chance.randrange(2):
            begin = max(start, change.offset)
            piece = change.data[begin - change.offset : start + SECTOR - change.offset]
            yield Write(change.file, begin, piece)


class _Reader:
    """Turns the tracer's lines into events."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._numbers: dict[str, int] = {self._root: ROOT}
        self._next = 1
        self._places: dict[str, int] = {}
        self._began: dict[str, tuple[str, int]] = {}
        self.folders: set[int] = {ROOT}
        self.first_paths: dict[int, str] = {ROOT: "."}
        self.events: list[Event] = []

    def take(self, line: str) -> None:
        """Take one line; calls that were interrupted in the log are put together."""
        found = _LINE.fullmatch(line)
        if found is None:
            return
        thread, text = found.groups()
        since = len(self.events)
        if begun := _UNFINISHED.fullmatch(text):
            self._began[thread] = (begun.group(1), since)
            return
        if resumed := _RESUMED.fullmatch(text):
            start, since = self._began.pop(thread)
            text = start + resumed.group(2)
        call = _CALL.match(text)
        if call is None or call.group(3).startswith("-"):
            return  # a signal, an exit, or a call that failed and changed nothing
        self._call(call.group(1), call.group(2), text, since)

    def _call(self, name: str, arguments: str, text: str, since: int) -> None:
        if self._root.encode() not in _unescaped(text):
            return
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            handler(arguments, text, since)
        elif name not in _HARMLESS:
            raise AssertionError(f"{_MISSED} {text[:300]}")

    def _path(self, text: str) -> str | None:
        """The path below the root that the call's first descriptor names."""
        found = _DESCRIPTOR.search(text)
        return None if found is None else self._inside(_unescaped(found.group(2)).decode())

    def _inside(self, path: str) -> str | None:
        if path.endswith(_IGNORED_END):
            return None
        return path if path == self._root or path.startswith(self._root + "/") else None

    def _named(self, arguments: str) -> list[str]:
        """Paths given as strings, made absolute by the descriptor before each."""
        base, paths = "", []
        for found in re.finditer(f"{_DESCRIPTOR.pattern}|{_STRING.pattern}", arguments):
            if found.group(1) is not None:
                base = _unescaped(found.group(2)).decode()
            else:
                path = _unescaped(found.group(3)).decode()
                paths.append(path if path.startswith("/") else f"{base}/{path}")
        return paths

    def _number(self, path: str) -> int:
        return self._numbers[path]

    def _add(self, path: str) -> int:
        number, self._next = self._next, self._next + 1
        self._numbers[path] = number
        self.first_paths[number] = path[len(self._root) + 1 :]
        self._name(path, number)
        return number

    def _name(self, path: str, number: int | None) -> None:
        folder, _, name = path.rpartition("/")
        self.events.append(Name(self._number(folder), ((name, number),)))

    def _on_openat(self, arguments: str, text: str, _since: int) -> None:
        found = _DESCRIPTOR.search(text, text.rindex(" = "))
        if found is None or (path := self._inside(_unescaped(found.group(2)).decode())) is None:
            return
        self._places[found.group(1)] = 0
        if path not in self._numbers:
            assert "O_CREAT" in arguments, f"{_MISSED} {text[:300]}"
            self._add(path)
        elif "O_TRUNC" in arguments:
            self._resize(path, 0)

    _on_open = _on_creat = _on_openat

    def _on_pwrite64(self, arguments: str, text: str, _since: int) -> None:
        if (path := self._path(arguments)) is not None:
            self._write(path, int(arguments.rpartition(", ")[2]), _data(arguments, text))

    def _on_write(self, arguments: str, text: str, _since: int) -> None:
        path = self._path(arguments)
        if path is None:
            return
        data = _data(arguments, text)
        if path == f"{self._root}/marks":
            self.events += [Mark(line) for line in data.decode().splitlines()]
            return
        descriptor = arguments.partition("<")[0]
        place = self._places.get(descriptor, 0)
        self._places[descriptor] = place + len(data)
        self._write(path, place, data)

    def _write(self, path: str, offset: int, data: bytes) -> None:
        self.events.append(Write(self._number(path), offset, data))

    def _on_lseek(self, arguments: str, text: str, _since: int) -> None:
        self._places[arguments.partition("<")[0]] = int(text.rpartition(" = ")[2])

    def _on_ftruncate(self, arguments: str, _text: str, _since: int) -> None:
        if (path := self._path(arguments)) is not None:
            self._resize(path, int(arguments.rpartition(", ")[2]))

    def _resize(self, path: str, size: int) -> None:
        self.events.append(Resize(self._number(path), size))

    def _on_fsync(self, arguments: str, _text: str, since: int) -> None:
        if (path := self._path(arguments)) is not None:
            self.events.append(Sync(self._number(path), since))

    _on_fdatasync = _on_fsync

    def _on_mkdir(self, arguments: str, _text: str, _since: int) -> None:
        for path in self._named(arguments):
            if self._inside(path) and path != self._root:
                self.folders.add(self._add(path))

    _on_mkdirat = _on_mkdir

    def _on_unlink(self, arguments: str, _text: str, _since: int) -> None:
        for path in self._named(arguments):
            if self._inside(path):
                del self._numbers[path]
                self._name(path, None)

    _on_unlinkat = _on_rmdir = _on_unlink

    def _on_rename(self, arguments: str, text: str, _since: int) -> None:
        source, target = self._named(arguments)
        assert self._inside(source), f"{_MISSED} {text[:300]}"
        assert self._inside(target), f"{_MISSED} {text[:300]}"
        number = self._numbers.pop(source)
        assert number not in self.folders, f"{_MISSED} {text[:300]}"
        self._numbers[target] = number
        self._name(target, number)
        if source.rpartition("/")[0] != target.rpartition("/")[0]:
            self._name(source, None)
            return
        self.events[-1] = Name(
            self._number(target.rpartition("/")[0]),
            ((target.rpartition("/")[2], number), (source.rpartition("/")[2], None)),
        )

    _on_renameat = _on_renameat2 = _on_rename

    def _on_mmap(self, arguments: str, text: str, _since: int) -> None:
        shared = "MAP_SHARED" in arguments and "PROT_WRITE" in arguments
        assert not (shared and self._path(arguments)), f"{_MISSED} {text[:300]}"


def _unescaped(text: str) -> bytes:
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes.fromhex(m.group(1).decode()), text.encode())


def _data(arguments: str, text: str) -> bytes:
    """What was really written: as much of the string as the call's result says."""
    found = _STRING.search(arguments)
    assert found is not None, f"{_MISSED} {text[:300]}"
    assert found.group(2) is None, "the tracer cut a string"
    return _unescaped(found.group(1))[: int(text.rpartition(" = ")[2])]
