"""A dry run of INIT and INVOKE, so that the real ones find everything warm.

The first pass of code in a fresh fork is slow: each page of memory that it writes to, if only to
count references, is copied first. A blank sandbox has time for that before it is claimed. A zygote
rehearses too, more often, so that what the interpreter learns about its own code is learnt once,
before the forks. Nothing of a user's is run, and what the dry run changes is put back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from pilotlight_guest import frames
from pilotlight_guest.python import faults, handlers, logs, process, runtime
from pilotlight_guest.python.context import Facts
from pilotlight_guest.python.jsontext import encoder_for

_MODULE = "colorsys"
"""A small module of the standard library that nothing of ours needs: it stands for the user's."""

_HEAD = "\0".join(("request", "arn:aws:lambda:::function:f", "Root=1", "", "", "")).encode()
_EVENT = b'{"text": "value", "number": 1, "list": [null, true, 1.5]}'
_INVOKE = frames.frame(1, frames.INVOKE, frames.invoke_body(2_000_000_000_000, _HEAD, _EVENT))


def run(times: int = 1) -> None:
    """Rehearse; a failure is no reason not to start."""
    for _ in range(times):
        with contextlib.suppress(Exception), _put_back():
            _rehearse()


def _rehearse() -> None:
    init = _init()
    encoder = encoder_for(init["environment"].get("AWS_EXECUTION_ENV", ""))
    sink = logs.set_up_logging(init["log_format"], init["log_level"])
    process.enter(init["environment"], init["task_root"])
    handlers.resolve(f"{_MODULE}.rgb_to_hls")
    invoke = runtime.Invoke(_handler, Facts(init, sink.log), encoder, init["log_format"])
    for _ in range(2):
        invoke(_INVOKE)
    faults.describe(ValueError("rehearsed"))


def _init() -> dict[str, Any]:
    """What INIT brings, through JSON as it does."""
    names = dict.fromkeys(frames.INIT_KEYS, "")
    environment = {
        **os.environ,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
    }
    fields = {
        **names, "environment": environment, "task_root": "/", "log_level": None, "memory_mib": 128,
    }  # fmt: skip
    decoded: dict[str, Any] = json.loads(json.dumps(fields))
    return decoded


def _handler(event: object, context: object) -> dict[str, object]:
    del context
    return {"statusCode": 200, "body": json.dumps(event)}


@contextlib.contextmanager
def _put_back() -> Iterator[None]:
    root = logging.getLogger()
    saved = (root.level, list(root.handlers), dict(os.environ), list(sys.path), list(sys.argv))
    folder = os.getcwd()  # noqa: PTH109  # no pathlib in a fresh fork
    try:
        yield
    finally:
        level, kept, environment, path, argv = saved
        root.setLevel(level)
        root.handlers[:] = kept
        sys.path[:], sys.argv[:] = path, argv
        sys.modules.pop(_MODULE, None)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        logs.Current.request_id = logs.Current.tenant_id = None
