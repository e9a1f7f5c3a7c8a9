"""The runtime as a process of its own: what the ``process`` driver starts.

It limits itself as far as a process without privileges can, makes the kernel end it with its
worker, and then is the runtime. A development mode: nothing here isolates.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from pilotlight_guest.python import runtime

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Run as ``channel-fd worker-pid open-files file-bytes``; never returns."""
    channel_fd, worker_pid, open_files, file_bytes = (int(argument) for argument in arguments)
    _end_with(worker_pid)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, open_files)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    runtime.main(channel_fd)


def _end_with(worker_pid: int) -> None:
    """Have the kernel kill this process when the worker ends, however it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != worker_pid:  # it ended before the kernel knew of our wish
        os._exit(0)


def _limit(what: int, value: int) -> None:
    """Lower a limit, soft and hard; never above the one there is."""
    _, hard = resource.getrlimit(what)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (allowed, allowed))
