"""Long runs: everything at once for a minute, and SIGKILL in the middle of deployments."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from pilotlight.testing.client import (
    create,
    invoke,
    isolation_arguments,
    lambda_client,
    zipped,
)
from pilotlight.testing.platform import Platform, running_platform, start_platform

pytestmark = [pytest.mark.long, pytest.mark.chaos, pytest.mark.timeout(600)]

SOAK_S = 60.0
KILLS = 8

MIXED = """
import os, time

def handler(event, context):
    do = event["do"]
    if do == "echo":
        return event
    if do == "raise":
        raise RuntimeError("asked for")
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(30)
    if do == "print":
        print("x" * 5000)
        return len(event)
    return "y" * event["n"]
"""


def expected(do: str, event: dict[str, Any], result: Any, answer: dict[str, Any]) -> bool:
    """Whether an answer is the one that this event must get."""
    if do == "echo":
        return bool(result == event)
    if do == "big":
        return bool(result == "y" * event["n"])
    if do == "print":
        return bool(result == len(event))
    kinds = {"raise": "RuntimeError", "exit": "Runtime.ExitError", "sleep": "Sandbox.Timedout"}
    return bool(answer.get("FunctionError") == "Unhandled" and result["errorType"] == kinds[do])


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Callers:
    """Threads that call until they are stopped, and count what they saw."""

    def __init__(self, platform: Platform, count: int, seed: int) -> None:
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._platform = platform
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed + n),))
            for n in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, chance: random.Random) -> None:
        api = lambda_client(self._platform)
        while not self._stop.is_set():
            do = chance.choices(
                ["echo", "raise", "exit", "sleep", "print", "big"], [60, 10, 4, 1, 10, 15]
            )[0]
            event = {"do": do, "n": chance.randrange(1, 300_000), "id": chance.random()}
            result, answer = invoke(api, "mixed", event)
            self.seen[do] += 1
            if not expected(do, event, result, answer):
                self.wrong.append(f"{do}: {json.dumps(result)[:200]}")


def test_a_minute_of_everything_gives_right_answers_and_leaks_nothing(tmp_path: Path) -> None:
    with running_platform(tmp_path / "data", *isolation_arguments()) as platform:
        api = lambda_client(platform)
        create(api, "mixed", zipped({"app.py": MIXED}), Timeout=1, MemorySize=256)
        with Callers(platform, 6, seed=1) as callers:
            time.sleep(SOAK_S / 3)
            before = resident_kib(platform.pid), descriptors(platform.pid)
            time.sleep(SOAK_S * 2 / 3)
            after = resident_kib(platform.pid), descriptors(platform.pid)
        assert not callers.wrong, callers.wrong[:5]
        assert set(callers.seen) == {"echo", "raise", "exit", "sleep", "print", "big"}
        assert after[0] - before[0] < 40 * 1024, "the main process grows"
        assert after[1] - before[1] < 60, "descriptors are leaked"
        _, text = platform.get("/metrics")
        assert b"pilotlight_platform_failures_total{" not in text, "the platform failed by itself"


def deployer(platform: Platform, names: list[str], done: list[str]) -> Callable[[], None]:
    def run() -> None:
        api = lambda_client(platform)
        for name in names:
            source = f"def handler(e, c):\n    return {name!r}\n"
            try:
                create(api, name, zipped({"app.py": source}))
            except (ClientError, BotoCoreError):
                return  # the platform was killed
            done.append(name)

    return run


def test_sigkill_during_deployments_leaves_each_function_old_or_new(tmp_path: Path) -> None:
    chance = random.Random(20261124)
    data = tmp_path / "data"
    acknowledged: list[str] = []
    for round_ in range(KILLS):
        platform = start_platform(data, *isolation_arguments())
        done: list[str] = []
        names = [[f"f{round_}-{worker}-{n}" for n in range(50)] for worker in range(2)]
        threads = [threading.Thread(target=deployer(platform, mine, done)) for mine in names]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.5, 5.0))
        platform.kill()
        for thread in threads:
            thread.join(60)
        acknowledged += done
    with running_platform(data, *isolation_arguments()) as platform:
        api = lambda_client(platform)
        pages = api.get_paginator("list_functions").paginate()
        listed = {f["FunctionName"] for page in pages for f in page["Functions"]}
        assert set(acknowledged) <= listed, "an acknowledged function is lost"
        assert acknowledged
        for name in sorted(listed):
            api.get_waiter("function_active_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
            )
            assert invoke(api, name, {})[0] == name
