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

STATUS = struct.Struct("<ci")
"""What goes over the status pipe: ``S`` and the runtime's wait status, or ``E`` and an errno,
followed by text, when the sandbox could not be made."""


def run(runtime: int, status_fd: int) -> NoReturn:
    """Wait for process ``runtime``, write its wait status to ``status_fd``, then exit."""

    def forward(signum: int, _frame: object) -> None:
        try:
            os.kill(runtime, signum)
        except ProcessLookupError:
            return

    for signum in FORWARDED:
        signal.signal(signum, forward)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == runtime:
            break
    os.write(status_fd, STATUS.pack(b"S", status))
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def report_failure(status_fd: int, error: BaseException) -> NoReturn:
    """Tell that the sandbox could not be made, and exit."""
    number = error.errno if isinstance(error, OSError) and error.errno else 0
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:2000]
    os.write(status_fd, STATUS.pack(b"E", number) + text)
    os._exit(125)
