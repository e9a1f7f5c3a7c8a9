"""Package intake end to end: real archives, the real confined process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotlight.model.errors import PackageRejected
from pilotlight.model.ids import Digest
from pilotlight.storage.blobs import LocalBlobStore, MemoryBlobStore
from pilotlight.storage.packages import PackageIntake, PackageLimits, blob_name
from pilotlight.testing.archives import (
    FILE,
    LINK,
    archive,
    directory_of,
    files,
    with_central,
    with_local,
)

pytestmark = pytest.mark.anyio

NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
KIB, MIB = 1024, 1024 * 1024


@pytest.fixture
def blobs() -> MemoryBlobStore:
    return MemoryBlobStore()


@pytest.fixture
def work_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "work"
    yield folder
    assert [p for p in folder.rglob("*") if p.name != "check"] == []


@pytest.fixture
def intake(blobs: MemoryBlobStore, work_dir: Path) -> PackageIntake:
    return PackageIntake(blobs, work_dir)


def small(
    blobs: MemoryBlobStore,
    work_dir: Path,
    *,
    unzipped_bytes: int = 100 * 1024 * 1024,
    entries: int = 1000,
    ratio_from_bytes: int = 32 * 1024 * 1024,
    package_bytes: int = 100 * 1024 * 1024,
) -> PackageIntake:
    limits = PackageLimits(
        unzipped_bytes=unzipped_bytes,
        entries=entries,
        ratio_from_bytes=ratio_from_bytes,
        package_bytes=package_bytes,
    )
    return PackageIntake(blobs, work_dir, limits)


async def rejection(intake: PackageIntake, blobs: MemoryBlobStore, package: bytes) -> str:
    with pytest.raises(PackageRejected) as caught:
        await intake.accept(package)
    assert await blobs.names("") == ()
    assert len(str(caught.value)) > 20
    return caught.value.reason


async def test_an_accepted_package_is_stored_under_its_digest(
    intake: PackageIntake, blobs: MemoryBlobStore
) -> None:
    package = files(app__py=b"x" * 1000, lib=b"y")
    accepted = await intake.accept(package)
    assert await intake.accept(package) == accepted
    digest = hashlib.sha256(package)
    assert accepted.code.package == digest.hexdigest()
    assert accepted.code.sha256 == base64.b64encode(digest.digest()).decode()
    assert (accepted.code.size_bytes, accepted.unzipped_bytes, accepted.files) == (
        len(package),
        1001,
        2,
    )
    assert await blobs.get(blob_name(accepted.code.package)) == package


async def test_a_package_can_be_a_file(
    intake: PackageIntake, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    upload = tmp_path / "upload.zip"
    upload.write_bytes(files(a=b"1"))
    accepted = await intake.accept(upload)
    assert await blobs.get(blob_name(accepted.code.package)) == upload.read_bytes()


async def test_a_tree_has_the_modes_times_and_links_of_the_archive(
    intake: PackageIntake, tmp_path: Path
) -> None:
    package = archive(
        [
            ("bin/tool", b"#!/bin/sh\n", stat.S_IFREG | 0o4755),
            ("secret", b"s", stat.S_IFREG | 0o600),
            ("empty/", b"", stat.S_IFDIR | 0o700),
            ("bin/link", b"../secret", LINK),
        ]
    )
    accepted = await intake.accept(package)
    target = tmp_path / "tree"
    await intake.unpack(accepted.code.package, target)
    found = {
        str(path.relative_to(target)): stat.filemode(path.lstat().st_mode)
        for path in target.rglob("*")
    }
    assert found == {
        "bin": "drwxr-xr-x",
        "bin/tool": "-r-xr-xr-x",
        "bin/link": "lrwxrwxrwx",
        "secret": "-r--r--r--",
        "empty": "drwxr-xr-x",
    }
    assert (target / "bin/link").readlink() == Path("../secret")
    assert (target / "bin/tool").stat().st_mtime == 1580702706  # 2020-02-03T04:05:06Z
    assert {path.lstat().st_uid for path in target.rglob("*")} == {os.geteuid()}
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


async def test_what_is_not_a_zip_gets_the_message_of_the_service(
    intake: PackageIntake,
) -> None:
    for package in (b"not a zip", os.urandom(5000), b"PK\x05\x06"):
        with pytest.raises(PackageRejected) as caught:
            await intake.accept(package)
        assert (str(caught.value), caught.value.reason) == (NOT_A_ZIP, "corrupt")
    for package in (b"", archive([])):
        with pytest.raises(PackageRejected, match="Uploaded file must be a non-empty zip"):
            await intake.accept(package)


@pytest.mark.parametrize(
    ("reason", "entries"),
    [
        ("absolute-path", [("/etc/passwd", b"x", FILE)]),
        ("absolute-path", [("C:\\x", b"x", FILE)]),
        ("parent-path", [("a/../../x", b"x", FILE)]),
        ("parent-path", [("..", b"x", FILE)]),
        ("link", [("l", b"/etc/passwd", LINK)]),
        ("link", [("l", b"../x", LINK)]),
        ("link", [("a/l", b"b/../../../x", LINK)]),
        ("link", [("l", b"m", LINK), ("m", b"d/../..", LINK)]),
        ("link", [("l", b"l", LINK)]),
        ("link", [("l", b"", LINK)]),
        ("link", [("l", b"x" * 5000, LINK)]),
        ("duplicate", [("l", b"d", LINK), ("l/x", b"through the link", FILE)]),
        ("device", [("d", b"", stat.S_IFCHR | 0o666)]),
        ("device", [("d", b"", stat.S_IFBLK | 0o666)]),
        ("device", [("d", b"", stat.S_IFIFO | 0o666)]),
        ("device", [("d", b"", stat.S_IFSOCK | 0o666)]),
        ("duplicate", [("a", b"1", FILE), ("a", b"2", FILE)]),
        ("duplicate", [("a", b"1", FILE), ("./a", b"2", FILE)]),
        ("duplicate", [("a/b", b"1", FILE), ("a//b", b"2", FILE)]),
        ("duplicate", [("a", b"1", FILE), ("a/b", b"2", FILE)]),
        ("duplicate", [("a/b", b"1", FILE), ("a", b"2", FILE)]),
        ("duplicate", [("a", b"1", FILE), ("a/", b"", stat.S_IFDIR | 0o755)]),
        ("name", [("x" * 256, b"1", FILE)]),
        ("name", [("/".join(["d" * 200] * 6), b"1", FILE)]),
        ("name", [("./", b"x", FILE), (".", b"x", FILE)]),
    ],
)
async def test_hostile_entries_are_refused(
    intake: PackageIntake,
    blobs: MemoryBlobStore,
    reason: str,
    entries: list[tuple[str, bytes, int]],
) -> None:
    assert await rejection(intake, blobs, archive(entries)) == reason


def damaged() -> Iterator[tuple[str, str, bytes]]:
    good = archive([("a.txt", b"hello " * 500, FILE)])
    stored = archive([("a.txt", b"hello " * 500, FILE)], method=zipfile.ZIP_STORED)
    middle = 60
    yield "encrypted", "encrypted", with_central(good, 8, b"\x01\x00")
    yield "bad checksum", "corrupt", with_central(good, 16, b"\x00\x00\x00\x00")
    yield "too small a size", "corrupt", with_central(good, 24, struct.pack("<I", 10))
    yield "too large a size", "corrupt", with_central(good, 24, struct.pack("<I", 9999))
    yield "data cut", "corrupt", with_central(good, 20, struct.pack("<I", 5))
    yield "data beyond the end", "corrupt", with_central(good, 20, struct.pack("<I", 1 << 20))
    yield "header elsewhere", "corrupt", with_central(good, 42, struct.pack("<I", 7))
    yield "unknown method", "corrupt", with_central(good, 10, struct.pack("<H", 99))
    yield "another name inside", "corrupt", with_local(good, 30, b"b")
    yield "no local header", "corrupt", with_local(good, 0, b"XX")
    yield "changed contents", "corrupt", stored[:middle] + b"#" + stored[middle + 1 :]
    yield "truncated", "corrupt", good[:-10]
    yield "NUL in the name", "name", good.replace(b"a.txt", b"a\x00txt")
    yield "zip64 size", "size", zip64_lie(good)


def zip64_lie(package: bytes) -> bytes:
    """The size moved to a zip64 field that says 2**60."""
    at, end = directory_of(package), package.rindex(b"PK\x05\x06")
    entry = bytearray(package[at:end])
    entry[24:28] = b"\xff\xff\xff\xff"
    entry[30:32] = struct.pack("<H", 12)
    entry += struct.pack("<HHQ", 1, 8, 1 << 60)
    tail = bytearray(package[end:])
    tail[12:16] = struct.pack("<I", len(entry))
    return package[:at] + bytes(entry) + bytes(tail)


@pytest.mark.parametrize(
    ("what", "reason", "package"), list(damaged()), ids=[what for what, _, _ in damaged()]
)
async def test_damaged_and_lying_archives_are_refused(
    intake: PackageIntake, blobs: MemoryBlobStore, what: str, reason: str, package: bytes
) -> None:
    assert await rejection(intake, blobs, package) == reason, what


async def test_overlapping_entries_are_refused(
    intake: PackageIntake, blobs: MemoryBlobStore
) -> None:
    package = archive([("a", b"x" * 100, FILE)])
    at, end = directory_of(package), package.rindex(b"PK\x05\x06")
    entry = package[at:end]
    second = bytearray(package[end:])
    second[8:12] = struct.pack("<HH", 2, 2)
    second[12:16] = struct.pack("<I", 2 * len(entry))
    twice = package[:at] + entry + entry + bytes(second)
    assert await rejection(intake, blobs, twice) in ("corrupt", "duplicate")


async def test_bombs_by_ratio_count_and_size_are_refused(
    blobs: MemoryBlobStore, work_dir: Path
) -> None:
    by_ratio = small(blobs, work_dir, ratio_from_bytes=100 * KIB)
    assert await rejection(by_ratio, blobs, files(a=bytes(MIB))) == "ratio"
    by_count = small(blobs, work_dir, entries=50)
    many = archive((f"{n}", b"", FILE) for n in range(51))
    assert await rejection(by_count, blobs, many) == "count"
    a_directory_of_marks = files(a=b"1") + b"PK\x01\x02" * 101
    assert await rejection(by_count, blobs, a_directory_of_marks) == "count"
    deep = archive([("/".join("d" * 60), b"", FILE)])
    assert await rejection(by_count, blobs, deep) == "count"
    by_size = small(blobs, work_dir, unzipped_bytes=300 * KIB, package_bytes=MIB)
    assert await rejection(by_size, blobs, files(a=bytes(200 * KIB), b=bytes(200 * KIB))) == "size"
    tiny = small(blobs, work_dir, package_bytes=10)
    assert await rejection(tiny, blobs, files(a=b"1")) == "size"


async def test_the_size_limit_is_that_of_the_service(
    intake: PackageIntake,
) -> None:
    package = files(**{f"f{n}": bytes(27 * MIB) for n in range(10)})
    with pytest.raises(PackageRejected) as caught:
        await intake.accept(package)
    assert str(caught.value) == "Unzipped size must be smaller than 262144000 bytes"
    assert caught.value.reason == "size"


async def test_an_absent_package_cannot_be_unpacked(intake: PackageIntake, tmp_path: Path) -> None:
    for code in ("0" * 64, "../../etc/passwd", ""):
        with pytest.raises(KeyError):
            await intake.unpack(Digest(code), tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


async def test_a_damaged_blob_is_not_unpacked(
    intake: PackageIntake, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    code = (await intake.accept(files(a=b"1"))).code.package
    await blobs.put(blob_name(code), files(a=b"2"))
    with pytest.raises(PackageRejected, match="damaged"):
        await intake.unpack(code, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


async def test_a_bad_package_leaves_no_tree(
    intake: PackageIntake, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    package = archive([("good", b"x", FILE), ("l", b"../..", LINK)])
    code = Digest(hashlib.sha256(package).hexdigest())
    await blobs.put(blob_name(code), package)
    with pytest.raises(PackageRejected):
        await intake.unpack(code, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


async def test_a_cancelled_intake_leaves_no_process_and_no_file(
    blobs: MemoryBlobStore, intake: PackageIntake, tmp_path: Path
) -> None:
    package = archive([(f"f{n}", os.urandom(MIB), FILE) for n in range(8)])
    code = (await intake.accept(package)).code.package
    await blobs.delete(blob_name(code))
    for pause in (0, 0.01, 0.03, 0.06):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(intake.accept(package))
            await asyncio.sleep(pause)
            task.cancel()
        await blobs.put(blob_name(code), package)
        async with asyncio.TaskGroup() as group:
            task2 = group.create_task(intake.unpack(code, tmp_path / "tree"))
            await asyncio.sleep(pause)
            task2.cancel()
        assert task2.cancelled()
        assert not (tmp_path / "tree").exists()
        assert _children() == []


def _children() -> list[str]:
    found = Path("/proc/self/task").glob("*/children")
    names = [pid for path in found for pid in path.read_text().split()]
    return [pid for pid in names if "confined" in _command(pid)]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.slow
async def test_mutated_archives_never_escape_hang_or_leave_files(
    work_dir: Path, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    intake = small(blobs, work_dir, unzipped_bytes=MIB, entries=100)
    chance = random.Random(20240601)
    base = archive(
        [
            ("app.py", b"def handler(e, c): return e\n" * 40, FILE),
            ("lib/data", os.urandom(300), FILE),
            ("lib/link", b"data", LINK),
            ("bin/run", b"#!", stat.S_IFREG | 0o755),
        ]
    )
    outside = tmp_path / "outside"
    outside.mkdir()

    async def one(number: int) -> None:
        package = mutated(base, chance)
        code = Digest(hashlib.sha256(package).hexdigest())
        await blobs.put(blob_name(code), package)
        target = outside / "deep" / f"{number}"
        try:
            await intake.unpack(code, target)
        except PackageRejected:
            assert not target.exists()
        else:
            assert all(p.resolve().is_relative_to(target) for p in target.rglob("*"))

    for start in range(0, 32, 4):
        async with asyncio.TaskGroup() as group:
            for number in range(start, start + 4):
                group.create_task(one(number))
    assert [p.name for p in outside.iterdir()] == ["deep"]


def mutated(package: bytes, chance: random.Random) -> bytes:
    """Change a few bytes, mostly where the headers are; sometimes cut or repeat a piece."""
    body = bytearray(package)
    directory = directory_of(package)
    for _ in range(chance.randint(1, 4)):
        start = directory if chance.randrange(2) else 0
        at = chance.randrange(start, len(body))
        body[at] = chance.choice([0, 1, 0x2E, 0x2F, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    if chance.randrange(8) == 0:
        at = chance.randrange(len(body))
        del body[at : at + chance.randint(1, 40)]
    if chance.randrange(8) == 0:
        at = chance.randrange(len(body))
        body[at:at] = body[at : at + chance.randint(1, 80)]
    return bytes(body)


async def test_a_local_blob_store_serves_the_same(work_dir: Path, tmp_path: Path) -> None:
    blobs = await LocalBlobStore.open(tmp_path / "blobs")
    intake = PackageIntake(blobs, work_dir)
    accepted = await intake.accept(files(a=b"1"))
    await intake.unpack(accepted.code.package, tmp_path / "tree")
    assert (tmp_path / "tree" / "a").read_bytes() == b"1"
