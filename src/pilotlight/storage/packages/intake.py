"""From an upload to a durable blob, and from a blob to a tree.

Nothing of an archive is interpreted in this process: it hands descriptors to the confined program
of ``archive`` and distrusts its answer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pilotlight.kernel.confined import ConfinedFailure, Confinement, run_confined
from pilotlight.model.errors import PackageRejected, StorageFull
from pilotlight.model.function import Code
from pilotlight.model.ids import Digest
from pilotlight.model.limits import UNZIPPED_BYTES
from pilotlight.ports.blobs import BlobStore
from pilotlight.ports.code import AcceptedCode, CodeIntake
from pilotlight.storage.disk import DiskFloor, DiskGuard

REASONS = frozenset(
    {
        *("absolute-path", "parent-path", "link", "device", "duplicate", "ratio", "count"),
        *("size", "encrypted", "corrupt", "name"),
    }
)
"""What `PackageRejected` may say; anything else in an answer is a lie."""

_PROGRAM = Path(__file__).with_name("archive.py")
_LONGEST_MESSAGE = 600
_HEX = frozenset("0123456789abcdef")


_CHECKED_KEPT = 1024
"""Packages whose judgement is kept: some hundred bytes each."""


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """What a package may be and what reading it may cost.

    Attributes:
        unzipped_bytes: counted while unzipping (AWS: 250 MB).
        entries: files and folders together, those only implied by paths included.
        ratio: unzipped to zipped size above which an archive is a bomb; ordinary packages stay
            below 20, deflate reaches 1032.
        ratio_from_bytes: unzipped size up to which the ratio does not matter.
        package_bytes: the archive itself.
        concurrent: archives read at the same time.
        confinement: limits of the process that reads one.
    """

    unzipped_bytes: int = UNZIPPED_BYTES
    entries: int = 100_000
    ratio: int = 200
    ratio_from_bytes: int = 32 * 1024 * 1024
    package_bytes: int = UNZIPPED_BYTES
    concurrent: int = 2
    confinement: Confinement = field(default_factory=Confinement)


class PackageIntake(CodeIntake):
    """CodeIntake over a blob store. Restartable: keeps no state but the blobs.

    Args:
        blobs: where packages are kept, as ``packages/<digest>``.
        work_dir: private folder; the checking process stands in an empty folder of it.
        limits: what a package may be.
        floor: free space that unpacking must leave on the disk of the target.
    """

    def __init__(
        self,
        blobs: BlobStore,
        work_dir: Path,
        limits: PackageLimits | None = None,
        *,
        floor: DiskFloor | None = None,
    ) -> None:
        self._blobs = blobs
        self._work_dir = work_dir
        self._limits = limits or PackageLimits()
        self._floor = floor
        self._turns = asyncio.Semaphore(self._limits.concurrent)
        self._checked: OrderedDict[bytes, _Answer] = OrderedDict()

    async def accept(self, package: bytes | Path) -> AcceptedCode:
        """See the port. The file at a ``Path`` must not change meanwhile; it is left there."""
        size, digest = await asyncio.to_thread(_measure, package)
        if size > self._limits.package_bytes:
            limit = self._limits.package_bytes
            raise PackageRejected("size", f"The package is larger than {limit} bytes.")
        answer = self._checked.get(digest)
        async with self._turns:
            if answer is None:
                answer = await self._check(package)
                self._remember(digest, answer)
            await self._blobs.put(blob_name(Digest(digest.hex())), package)
        sha256 = base64.b64encode(digest).decode("ascii")
        code = Code(sha256=sha256, size_bytes=size, package=Digest(digest.hex()))
        return AcceptedCode(code=code, unzipped_bytes=answer.unzipped_bytes, files=answer.files)

    def _remember(self, digest: bytes, answer: _Answer) -> None:
        """Equal bytes are judged alike: a package that is uploaded again is not checked again."""
        self._checked[digest] = answer
        if len(self._checked) > _CHECKED_KEPT:
            self._checked.popitem(last=False)

    async def unpack(self, code: Digest, target: Path) -> None:
        """Unpack a stored package into ``target``, a folder that is empty or not there yet.

        Folders have mode 0755, files 0444 or 0555, all of this process's user; times are the
        archive's. When it fails or is cancelled, ``target`` is removed.

        Raises:
            KeyError: there is no such package.
            PackageRejected: the stored bytes are not those of the digest, or not acceptable.
            StorageFull: the disk is nearly full.
        """
        package = await self._blobs.get(blob_name(code))
        if (await asyncio.to_thread(_measure, package))[1].hex() != code:
            raise PackageRejected(
                "corrupt", f"The stored package {code} is damaged: deploy the function again."
            )
        try:
            await asyncio.to_thread(_make_target, target, self._floor, len(package))
            async with self._turns, _opened(package) as stdin:
                await self._run("unpack", stdin, target)
        except BaseException:
            await asyncio.to_thread(remove_tree, target)
            raise

    async def _check(self, package: bytes | Path) -> _Answer:
        # The program sees no files, not even this folder; it is only a place to stand.
        folder = self._work_dir / "check"
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        async with _opened(package) as stdin:
            return await self._run("check", stdin, folder)

    async def _run(self, mode: str, stdin: int, cwd: Path) -> _Answer:
        limits = self._limits
        writes = mode == "unpack"
        confinement = Confinement(
            wall_s=limits.confinement.wall_s,
            cpu_s=limits.confinement.cpu_s,
            memory_bytes=limits.confinement.memory_bytes,
            file_bytes=limits.unzipped_bytes if writes else 0,
            writes=writes,
        )
        numbers = (limits.unzipped_bytes, limits.entries, limits.ratio, limits.ratio_from_bytes)
        try:
            output = await run_confined(
                _PROGRAM,
                mode,
                *(str(number) for number in numbers),
                interpreter=Path(sys.executable),
                cwd=cwd,
                stdin=stdin,
                limits=confinement,
            )
        except ConfinedFailure as failure:
            if failure.reason == "unconfined":
                raise  # the host's fault, not the package's
            raise PackageRejected(
                "corrupt",
                "The package could not be read within the limits of time and memory. "
                "Please check your file, then try to upload again.",
            ) from failure
        return judge(output, limits.unzipped_bytes, limits.entries)


@dataclass(frozen=True, slots=True)
class _Answer:
    files: int
    unzipped_bytes: int


def blob_name(code: Digest) -> str:
    """Name of a package's blob.

    Raises:
        KeyError: it is not a digest, so there is no such package.
    """
    if len(code) != hashlib.sha256().digest_size * 2 or not _HEX.issuperset(code):
        raise KeyError(code)
    return f"packages/{code}"


def judge(output: bytes, most_bytes: int, most_files: int) -> _Answer:
    """Turn the program's answer into a result; an answer it cannot give counts as a rejection.

    Raises:
        PackageRejected: the archive is not acceptable.
        StorageFull: there was no room to unpack it.
    """
    try:
        answer = json.loads(output)
        status = answer["status"]
        if status == "ok":
            files, size = answer["files"], answer["bytes"]
            if _is_count(files, most_files) and _is_count(size, most_bytes):
                return _Answer(files, size)
        elif status == "full":
            raise StorageFull("The disk is full: the package was not unpacked. Free space there.")
        elif status == "rejected" and answer["reason"] in REASONS:
            message = str(answer["message"])[:_LONGEST_MESSAGE]
            if message.isprintable():
                raise PackageRejected(answer["reason"], message)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # decided below: whatever is wrong with the answer, the archive is not to be trusted
    raise PackageRejected("corrupt", "The package could not be read: its check gave no answer.")


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _measure(package: bytes | Path) -> tuple[int, bytes]:
    """Size and SHA-256."""
    if isinstance(package, bytes):
        return len(package), hashlib.sha256(package).digest()
    with package.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return file.tell(), digest


@asynccontextmanager
async def _opened(package: bytes | Path) -> AsyncIterator[int]:
    """A descriptor to read the package from; bytes go to memory, never to a disk."""
    if isinstance(package, Path):
        descriptor = os.open(package, os.O_RDONLY | os.O_CLOEXEC)
    else:
        descriptor = os.memfd_create("package", os.MFD_CLOEXEC)
    try:
        if isinstance(package, bytes):
            # The thread has a descriptor of its own: it may outlive a cancelled caller.
            await asyncio.to_thread(_fill, os.dup(descriptor), package)
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, package: bytes) -> None:
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        view = memoryview(package)
        while view:
            view = view[out.write(view) :]


def _make_target(target: Path, floor: DiskFloor | None, at_least: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o755)
    DiskGuard(target, floor).require(at_least)


def remove_tree(target: Path) -> None:
    """Remove a folder and all below it; absent is fine."""
    shutil.rmtree(target, ignore_errors=True)
