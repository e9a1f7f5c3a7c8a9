"""The program that reads a hostile zip: checks it, or unpacks it into the working directory.

Runs confined (``kernel.confined_child``), so it imports nothing but the standard library, and
everything it needs at once. Standard input is the archive; the answer is one JSON object on standard
output: ``{"status": "ok", "files", "bytes"}``, ``{"status": "rejected", "reason", "message"}`` or
``{"status": "full"}``.

Only the directory of the archive is read with `zipfile`. The contents are inflated here, so that
size, checksum and end of each entry are what was counted and not what a header says.
"""

from __future__ import annotations

import calendar
import encodings.cp437
import errno
import json
import os
import re
import stat
import struct
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

_ = encodings.cp437  # names without the UTF-8 flag need it, and it cannot be imported later

UNREADABLE = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"
TOO_LARGE = "Unzipped size must be smaller than {limit} bytes"

LONGEST_PART = 255  # bytes of one name: NAME_MAX of the file systems
LONGEST_PATH = 1024  # bytes of a whole name: with the mount point well below PATH_MAX
LONGEST_LINK = 1024
MOST_HOPS = 40  # links followed one after another, as the kernel limits it
SHOWN = 120  # characters of a name in a message

_CHUNK = 256 * 1024
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL_MARK = b"PK\x01\x02"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_UNIX = (3, 19)  # systems whose entries carry a file mode: Unix, macOS
_MADE_1980 = calendar.timegm((1980, 1, 1, 0, 0, 0))


class Rejected(Exception):
    """The archive is not acceptable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Limits(NamedTuple):
    """Most bytes unzipped, most files and folders, and when a ratio is that of a bomb."""

    size: int
    entries: int
    ratio: int
    ratio_from: int


class Entry(NamedTuple):
    """One accepted entry: its place in the tree and how to make it."""

    info: zipfile.ZipInfo
    path: str
    kind: str  # "file", "folder" or "link"
    executable: bool


def shown(name: str) -> str:
    """A name for a message: printable and short."""
    text = name.encode("unicode_escape").decode("ascii")
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def parts_of(name: str) -> list[str]:
    """The parts of an entry's name below the root; empty for the root itself.

    Raises:
        Rejected: the name is absolute, climbs, is too long, or cannot be a name.
    """
    if not name or "\x00" in name:
        raise Rejected("name", f"The name {shown(name)} in the archive is empty or contains NUL.")
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise Rejected(
            "absolute-path",
            f"The archive contains the absolute path {shown(name)}: use relative ones.",
        )
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or ".." in name.replace("\\", "/").split("/"):
        raise Rejected("parent-path", f"The path {shown(name)} in the archive contains '..'.")
    try:
        sizes = [len(part.encode("utf-8")) for part in parts]
    except UnicodeEncodeError:
        raise Rejected("name", f"The name {shown(name)} in the archive is not valid.") from None
    if any(size > LONGEST_PART for size in sizes) or sum(sizes) + len(sizes) > LONGEST_PATH:
        raise Rejected("name", f"The name {shown(name)} in the archive is too long.")
    return parts


def kind_of(info: zipfile.ZipInfo, name: str) -> str:
    """``file``, ``folder`` or ``link``.

    Raises:
        Rejected: it is a device, a pipe or a socket.
    """
    mode = info.external_attr >> 16 if info.create_system in _UNIX else 0
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return "link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Rejected("device", f"{shown(name)} in the archive is a device, a pipe or a socket.")
    return "folder" if name.endswith("/") or kind == stat.S_IFDIR else "file"


class Tree:
    """The paths seen so far. Invariant: each is one thing, and each parent is a folder."""

    def __init__(self, most: int) -> None:
        self.kinds: dict[str, str] = {}
        self._most = most

    def add(self, parts: list[str], kind: str, name: str) -> str:
        """Add an entry and the folders above it; return its path.

        A folder may be listed again, or after its contents: that says nothing new.

        Raises:
            Rejected: the path is taken, a parent is not a folder, or there are too many.
        """
        self._add_folders(parts[:-1], name)
        path = "/".join(parts)
        before = self.kinds.get(path, kind)
        if before != kind:
            raise Rejected(
                "duplicate", f"{shown(name)} is in the archive twice, as {kind} and {before}."
            )
        if path in self.kinds and kind != "folder":
            raise Rejected("duplicate", f"{shown(name)} is in the archive twice.")
        self.kinds[path] = kind
        if len(self.kinds) > self._most:
            raise Rejected(
                "count", f"The archive contains more than {self._most} files and folders."
            )
        return path

    def _add_folders(self, parts: list[str], name: str) -> None:
        if not parts or self.kinds.get("/".join(parts)) == "folder":
            return
        for depth in range(1, len(parts) + 1):
            if self.kinds.setdefault("/".join(parts[:depth]), "folder") != "folder":
                raise Rejected(
                    "duplicate", f"{shown(name)} lies below something that is not a folder."
                )


def check_links(links: dict[str, str]) -> None:
    """Return if every link (path to target) stays in the tree, through other links as well.

    Raises:
        Rejected: one leaves the tree at any step, is absolute, or goes round in circles.
    """
    for path, target in links.items():
        problem = _problem_of_link(path, target, links)
        if problem:
            raise Rejected("link", f"The link {shown(path)} to {shown(target)} {problem}.")


def _problem_of_link(path: str, target: str, links: dict[str, str]) -> str:
    place = path.split("/")[:-1]
    ahead = [target]
    hops = 0
    while ahead:
        part, _, rest = ahead.pop().partition("/")
        if rest:
            ahead.append(rest)
        if part == "..":
            if not place:
                return "leads out of the archive"
            place.pop()
        elif part not in ("", "."):
            place.append(part)
            if (following := links.get("/".join(place))) is not None:
                place.pop()
                ahead.append(following)
                hops += 1
        if hops > MOST_HOPS:
            return "leads through too many links"
    return ""


def corrupt(detail: str) -> Rejected:
    """The archive is damaged or lies about itself."""
    return Rejected("corrupt", f"{UNREADABLE} ({detail})")


def plan(archive: zipfile.ZipFile, limits: Limits) -> tuple[list[Entry], Tree]:
    """Judge all names, kinds and declared sizes before anything is inflated.

    Raises:
        Rejected: with the reason of the first entry that is not acceptable.
    """
    infos = archive.infolist()
    if not infos:
        raise Rejected("corrupt", EMPTY)
    if len(infos) > limits.entries:
        raise Rejected(
            "count", f"The archive contains more than {limits.entries} files and folders."
        )
    tree, entries = Tree(limits.entries), []
    for info in infos:
        _check_method(info)
        parts = parts_of(info.orig_filename)
        kind = kind_of(info, info.orig_filename)
        if not parts:
            if kind != "folder":
                raise Rejected(
                    "name", f"{shown(info.orig_filename)} names the root of the archive."
                )
            continue
        path = tree.add(parts, kind, info.orig_filename)
        mode = info.external_attr >> 16 if info.create_system in _UNIX else 0
        entries.append(Entry(info, path, kind, bool(mode & 0o111)))
    if sum(entry.info.file_size for entry in entries) >= limits.size:
        raise Rejected("size", TOO_LARGE.format(limit=limits.size))
    return entries, tree


def _check_method(info: zipfile.ZipInfo) -> None:
    name = shown(info.orig_filename)
    if info.flag_bits & 0x2041:  # encrypted, strongly encrypted, directory encrypted
        raise Rejected("encrypted", f"{name} in the archive is encrypted: upload it unencrypted.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise corrupt(f"{name} is compressed by method {info.compress_type}; use deflate")


def locate(file: IO[bytes], entries: list[Entry], end: int) -> dict[str, int]:
    """Where each entry's contents begin, by path.

    Raises:
        Rejected: an entry overlaps another or the directory, or its own header contradicts it.
    """
    starts: dict[str, int] = {}
    free_from = 0
    for entry in sorted(entries, key=lambda entry: entry.info.header_offset):
        info = entry.info
        name = shown(info.orig_filename)
        if info.header_offset < free_from:
            raise corrupt(f"{name} overlaps another entry")
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise corrupt(f"{name} is not where the directory says")
        *_, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        own_name = file.read(name_size).decode(
            "utf-8" if info.flag_bits & 0x800 else "cp437", "replace"
        )
        if own_name != info.orig_filename:
            raise corrupt(f"{name} is called {shown(own_name)} in its own header")
        starts[entry.path] = info.header_offset + len(header) + name_size + extra_size
        free_from = starts[entry.path] + info.compress_size
        if free_from > end:
            raise corrupt(f"{name} is cut off")
    return starts


class Contents:
    """Inflates entries and counts what comes out. Never holds more than a chunk."""

    def __init__(self, file: IO[bytes], package_size: int, limits: Limits) -> None:
        self.total = 0
        self._file = file
        self._package_size = package_size
        self._limits = limits

    def of(self, entry: Entry, start: int) -> Iterator[bytes]:
        """The contents of one entry, chunk by chunk.

        Raises:
            Rejected: it is damaged, or everything together is too large or a bomb.
        """
        info, size, checksum = entry.info, 0, 0
        self._file.seek(start)
        chunks = self._stored if info.compress_type == zipfile.ZIP_STORED else self._inflated
        for chunk in chunks(info):
            size += len(chunk)
            self._count(len(chunk))
            checksum = zlib.crc32(chunk, checksum)
            yield chunk
        if size != info.file_size or checksum != info.CRC:
            raise corrupt(f"size or checksum of {shown(info.orig_filename)} is wrong")

    def _count(self, size: int) -> None:
        self.total += size
        if self.total >= self._limits.size:
            raise Rejected("size", TOO_LARGE.format(limit=self._limits.size))
        if self.total > max(self._limits.ratio_from, self._limits.ratio * self._package_size):
            raise Rejected(
                "ratio",
                f"The archive unzips to more than {self._limits.ratio} times its size: "
                "it looks like a decompression bomb.",
            )

    def _stored(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        left = info.compress_size
        while left and (chunk := self._file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk

    def _inflated(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        left, waiting = info.compress_size, b""
        while not inflater.eof:
            if not waiting:
                waiting = self._file.read(min(_CHUNK, left))
                left -= len(waiting)
            ended = not waiting
            try:
                chunk = inflater.decompress(waiting, _CHUNK)
            except zlib.error as error:
                raise corrupt(f"{shown(info.orig_filename)}: {error}") from None
            waiting = inflater.unconsumed_tail
            if ended and not chunk and not inflater.eof:
                raise corrupt(f"{shown(info.orig_filename)} is cut off")
            yield chunk
        if left or inflater.unused_data:
            raise corrupt(f"{shown(info.orig_filename)} is followed by something else")


def read_link(chunks: Iterator[bytes], name: str) -> str:
    """The target of a link.

    Raises:
        Rejected: it is no path.
    """
    target = b""
    for chunk in chunks:
        target += chunk
        if len(target) > LONGEST_LINK:
            raise Rejected("link", f"The link {shown(name)} has too long a target.")
    if not target or b"\x00" in target or target.startswith(b"/"):
        raise Rejected("link", f"The link {shown(name)} is absolute, empty or not valid.")
    try:
        return target.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejected("link", f"The target of the link {shown(name)} is not valid.") from None


def made_at(info: zipfile.ZipInfo) -> int:
    """Seconds since 1970 of an entry's time, which is taken as UTC; 1980 when it is no time."""
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0))
    except ValueError:
        return _MADE_1980


def write_file(entry: Entry, chunks: Iterator[bytes]) -> None:
    """Make one file; it must not exist."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(entry.path, flags, 0o600), "wb", buffering=0) as out:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[out.write(view) :]
        os.fchmod(out.fileno(), 0o555 if entry.executable else 0o444)
        os.utime(out.fileno(), (made_at(entry.info),) * 2)


def process(file: IO[bytes], limits: Limits, *, writes: bool) -> dict[str, object]:
    """Check the whole archive; with ``writes`` also unpack it into the working directory.

    Links are made last, so nothing is ever written through one.

    Raises:
        Rejected: it is not acceptable; what was written is the caller's to remove.
    """
    package_size = file.seek(0, os.SEEK_END)
    archive = open_archive(file, package_size, limits)
    entries, tree = plan(archive, limits)
    starts = locate(file, entries, archive.start_dir)
    contents = Contents(file, package_size, limits)
    if writes:
        for path in (path for path, kind in tree.kinds.items() if kind == "folder"):
            Path(path).mkdir(mode=0o755)
    links: dict[str, str] = {}
    for entry in entries:
        chunks = contents.of(entry, starts[entry.path])
        if entry.kind == "link":
            links[entry.path] = read_link(chunks, entry.path)
        elif entry.kind == "file" and writes:
            write_file(entry, chunks)
        else:
            deque(chunks, maxlen=0)  # inflated only to be checked
    check_links(links)
    if writes:
        finish(entries, tree, links)
    files = sum(entry.kind != "folder" for entry in entries)
    return {"status": "ok", "files": files, "bytes": contents.total}


def has_too_many_headers(file: IO[bytes], most: int) -> bool:
    """Whether a file has more than ``most`` marks of a directory entry.

    Costs milliseconds where reading such a directory costs half a minute.
    """
    file.seek(0)
    count, tail = 0, b""
    while chunk := file.read(_CHUNK):
        count += (tail + chunk).count(_CENTRAL_MARK)
        tail = chunk[1 - len(_CENTRAL_MARK) :]
    return count > most


def open_archive(file: IO[bytes], size: int, limits: Limits) -> zipfile.ZipFile:
    """Read the directory at the archive's end.

    Raises:
        Rejected: there is none, or it contradicts itself.
    """
    if size == 0:
        raise Rejected("corrupt", EMPTY)
    too_many = f"The archive contains more than {limits.entries} files and folders."
    # Archives stored inside have marks too: only a number that these cannot explain is refused.
    if has_too_many_headers(file, 2 * limits.entries):
        raise Rejected("count", too_many)
    try:
        return zipfile.ZipFile(file)
    except MemoryError:
        raise Rejected("count", too_many) from None
    except (
        zipfile.BadZipFile,
        ValueError,
        OSError,
        NotImplementedError,
        struct.error,
        OverflowError,
    ):
        # `zipfile` raises all of these for directories that contradict themselves.
        raise Rejected("corrupt", UNREADABLE) from None


def finish(entries: list[Entry], tree: Tree, links: dict[str, str]) -> None:
    """Make the links and give folders and links their times, which making files has changed."""
    for path, target in links.items():
        Path(path).symlink_to(target)
    times = {entry.path: made_at(entry.info) for entry in entries}
    for path, kind in tree.kinds.items():
        if kind != "file":
            os.utime(path, (times.get(path, _MADE_1980),) * 2, follow_symlinks=False)
    os.utime(".", (_MADE_1980,) * 2)


def main(arguments: list[str]) -> int:
    """Process the archive on standard input: ``check|unpack size entries ratio ratio_from``."""
    limits = Limits(*(int(argument) for argument in arguments[1:]))
    try:
        with os.fdopen(sys.stdin.fileno(), "rb", closefd=False) as file:
            answer = process(file, limits, writes=arguments[0] == "unpack")
    except Rejected as rejection:
        answer = {"status": "rejected", "reason": rejection.reason, "message": str(rejection)}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        answer = {"status": "full"}
    sys.stdout.write(json.dumps(answer))
    return 0
