"""A program that accepts and settles events and says what was acknowledged; run while recorded."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pilotlight.kernel.system import SystemClock
from pilotlight.model.errors import PlatformError
from pilotlight.model.events import Attempt, AttemptOutcome, Condition, End, Event, Lane, Retry
from pilotlight.ports.events import Want
from pilotlight.storage.database import DatabaseSettings
from pilotlight.storage.queue import open_queue

EVENTS = 40
ACCOUNT = "000000000000"


def an_event(name: str, function: str = "hello") -> Event:
    return Event(name, ACCOUNT, "us-east-1", function, None, name.encode() * 300, "", 1.0)


async def main(root: Path) -> None:
    descriptor = os.open(root / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def mark(text: str) -> None:
        os.write(descriptor, text.encode() + b"\n")

    mark("opening")
    settings = DatabaseSettings(wal_pages=20, wal_bytes_kept=8192)
    async with open_queue(root / "queue.db", clock=SystemClock(), database=settings) as queue:

        def sent(name: str) -> asyncio.Future[None]:
            stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def done(error: PlatformError | None) -> None:
                assert error is None
                mark(f"accepted {name}")
                stored.set_result(None)

            queue.accept(an_event(name), done)
            return stored

        for start in range(0, EVENTS, 10):
            await asyncio.gather(*[sent(str(n)) for n in range(start, start + 10)])
            leased = await queue.lease(
                [Want(Lane(ACCOUNT, "hello"), 8)], now_s=2.0, until_s=9e9, max_bytes=1_000_000
            )
            for held in leased.leases:
                name = held.event.request_id
                if int(name) % 4 == 0:
                    await queue.settle([Retry(held, (), 1.0)])
                    continue
                done = (Attempt(AttemptOutcome.SUCCESS, 1.0, 2.0),)
                sends = (an_event(f"after-{name}", "after"),)
                await queue.settle([End(held, done, Condition.SUCCESS, 3.0, "", sends)])
                mark(f"ended {name}")
    mark("closed")
    os.close(descriptor)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
