"""Uncounted objects, on every interpreter of this machine: what stays true, and what they spare."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.integration.guest.runtime_process import GUEST_ROOT, VERSIONS, interpreter

_PROOF = """
import gc, json, os, sys, weakref
sys.path.insert(0, sys.argv[1])
import asyncio, email.message, logging, pickle
from pilotlight_guest import immortal

class Kept:
    def __init__(self): self.list = [1, "a" * 100]
kept = Kept()
text = "not a constant " + str(len(sys.argv))

def dirty():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))

def forked(work):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = dirty()
        try:
            found = work()
        except BaseException as error:
            found = repr(error)
        os.write(write, json.dumps([found, dirty() - before]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return json.loads(os.read(read, 65536))

def look():
    # Counts up and down on every module's members, as calls do.
    return sum(len(str(type(v))) > 0 for m in list(sys.modules.values()) for v in vars(m).values())

def use():
    ended = []
    class Mortal: pass
    mortal = Mortal()
    weakref.finalize(mortal, ended.append, "end")
    kept.list.append(mortal)
    kept.list.pop()
    del mortal
    gc.collect()
    joined = text
    joined += "!"                       # must not change the string it began as
    one = (kept, text)
    message = email.message.Message(); message["a"] = joined
    del sys.modules["email.message"]
    import email.message as again
    echo = pickle.loads(pickle.dumps({"a": [1, 2, {"b": text}]}))
    async def nothing(): return 7
    return [ended, text, joined, again.Message is not None, echo["a"][2]["b"] == text,
            asyncio.run(nothing()), sorted(zip("ab", "cd"))]

gc.collect()
counted = forked(look)[1]
number = immortal.immortalize()
gc.freeze()
print(json.dumps({
    "can": immortal.can_immortalize(), "number": number,
    "counted_kib": counted, "uncounted_kib": forked(look)[1], "use": forked(use)[0],
    "again": immortal.immortalize() > 0,
}))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_uncounted_objects_work_as_before_and_spare_pages(version: str) -> None:
    executable = interpreter(version)
    if executable is None:
        pytest.skip(f"this machine has no Python {version}")
    done = subprocess.run(
        [executable, "-I", "-S", "-c", _PROOF, str(GUEST_ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    text = "not a constant 2"
    assert found["use"] == [
        ["end"], text, f"{text}!", True, True, 7, [["a", "c"], ["b", "d"]]
    ]  # fmt: skip
    if version in {"3.12", "3.13"}:
        assert found["can"]
        assert found["number"] > 10_000
        assert found["uncounted_kib"] < 0.7 * found["counted_kib"], found
    else:
        assert not found["can"]
        assert (found["number"], found["again"]) == (0, False)
