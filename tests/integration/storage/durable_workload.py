"""A program that stores things and says what was acknowledged; run while it is recorded.

Commits, blobs, and commits that name a blob, many at a time; with a small write-ahead log, so that
checkpoints happen in between.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from pilotlight.ports.registry import Delete, Put
from pilotlight.storage.blobs import LocalBlobStore
from pilotlight.storage.database import DatabaseSettings
from pilotlight.storage.registry import open_registry

COMMITS = 40
BLOBS = 6


def blob_body(number: int) -> bytes:
    return random.Random(number).randbytes(3000 * (number + 1))


async def main(root: Path) -> None:
    descriptor = os.open(root / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def mark(text: str) -> None:
        os.write(descriptor, text.encode() + b"\n")

    mark("opening")
    blobs = await LocalBlobStore.open(root / "blobs")
    settings = DatabaseSettings(wal_pages=20, wal_bytes_kept=8192)
    async with open_registry(root / "registry.db", settings=settings) as store:

        async def commit(number: int) -> None:
            body = b"%d" % number
            pair = [Put("pair", "1", f"x{number}", body), Put("pair", "1", f"y{number}", body)]
            await store.commit([*pair, Delete("pair", "1", "absent")])
            mark(f"commit {number}")

        async def upload(number: int) -> None:
            await blobs.put(f"packages/{number % 2}/{number}", blob_body(number))
            mark(f"blob {number}")
            await store.commit([Put("names", "1", f"packages/{number % 2}/{number}", b"")])
            mark(f"named {number}")

        for start in range(0, COMMITS, 10):
            await commit(start)
            async with asyncio.TaskGroup() as group:
                for number in range(start + 1, start + 10):
                    group.create_task(commit(number))
                group.create_task(upload(start // 10))
        for number in range(COMMITS // 10, BLOBS):
            await upload(number)
    mark("closed")
    os.close(descriptor)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
