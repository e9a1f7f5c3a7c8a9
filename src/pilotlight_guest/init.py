"""Process 1 of a sandbox: reaps what is left to it, forwards signals, tells how the runtime ended.

It runs with the sandbox's own user, no capability and the same system call filter. When it ends,
the kernel ends every process of the sandbox.
"""

from __future__ import annotations

import os
import signal
import struct
from typing import NoReturn

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)

BLOCKED = frozenset((*FORWARDED, signal.SIGCHLD))
"""Must be blocked before `run`, from before the runtime is forked: they are waited for."""

STATUS = struct.Struct("<ci")
"""What goes over the status pipe: ``S`` and the runtime's wait status. When the sandbox could not
be made, ``E``, an errno, text and a line end come first."""


_UNKNOWN = 125 << 8
"""Wait status of a runtime that could not be waited for: it failed before it began."""


def run(runtime: int, status_fd: int) -> NoReturn:
    """Wait for process ``runtime``, write its wait status to ``status_fd``, then exit.

    Handlers would be run by the interpreter; waiting for signals touches less memory. A runtime
    that ended while SIGCHLD was still ignored has left no status.
    """
    status = _reap(runtime)
    while status is None:
        signum = signal.sigwaitinfo(BLOCKED).si_signo
        if signum == signal.SIGCHLD:
            status = _reap(runtime)
        else:
            _forward(runtime, signum)
    os.write(status_fd, STATUS.pack(b"S", status))
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _forward(runtime: int, signum: int) -> None:
    try:
        os.kill(runtime, signum)
    except ProcessLookupError:
        return


def _reap(runtime: int) -> int | None:
    """Reap all that have ended; the runtime's wait status once it has."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # the runtime is a child until it is reaped
            return _UNKNOWN
        if pid == runtime:
            return status
        if pid == 0:
            return None


def report_failure(status_fd: int, error: BaseException) -> NoReturn:
    """Tell that the sandbox could not be made, and exit."""
    number = error.errno if isinstance(error, OSError) and error.errno else 0
    text = " ".join(f"{type(error).__name__}: {error}".split())
    os.write(status_fd, STATUS.pack(b"E", number) + text.encode("utf-8", "replace")[:2000] + b"\n")
    os._exit(125)
