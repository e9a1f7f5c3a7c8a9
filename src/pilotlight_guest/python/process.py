"""What the runtime does to its own process: fresh state after a fork, search path, ending."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import os
import signal
import site
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NoReturn

_PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120  # pathlib would be one import more
_GUEST_ROOT = os.path.realpath(os.path.join(_PACKAGE, "../.."))  # noqa: PTH118  # the same

_STANDARD_PATH = tuple(path for path in sys.path if path and os.path.realpath(path) != _GUEST_ROOT)
"""Where this interpreter finds its own library, as it was when it started."""

_DISPOSITIONS = (
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGCHLD, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGUSR1, signal.SIG_DFL),
    (signal.SIGUSR2, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGPIPE, signal.SIG_IGN),
)

LAYERS = "/opt/python"
RUNTIME_DIR = "/var/runtime"


def start_afresh() -> None:
    """Undo what a zygote set up or shares with its other children. Cheap, idempotent.

    Generators that were seeded before a fork would repeat in every sandbox; a process id cannot
    tell them apart, since ids repeat in new pid namespaces. ``random`` seeds itself in a fork that
    calls the interpreter's hooks; here it does not depend on how we were made.
    """
    gc.enable()
    random = sys.modules.get("random")
    if random is not None:
        random.seed()
    _reset_signals()
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None  # type: ignore[attr-defined]  # noqa: SLF001  # names drawn from a seed
    faulthandler = sys.modules.get("faulthandler")
    if faulthandler is not None:
        faulthandler.disable()
    _set_name(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    add_site_builtins()


def _reset_signals() -> None:
    """Block none, handle none but SIGINT; what is right already is not touched."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number, wanted in _DISPOSITIONS:
        if signal.getsignal(number) is not wanted:
            signal.signal(number, wanted)


def _set_name(name: str) -> None:
    try:
        comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(comm, name.encode())
        finally:
            os.close(comm)
    except OSError:
        pass  # a hidden /proc: the name is for people who look at process lists


def add_site_builtins() -> None:
    """``exit``, ``quit``, ``help`` and their like, which an interpreter without site lacks."""
    if not hasattr(builtins, "exit"):
        site.setquit()
        site.sethelper()
        site.setcopyright()


def enter(environment: Mapping[str, str], task_root: str) -> None:
    """Become the process of one function: environment, time zone, folder, search path.

    Raises:
        OSError: the task root is not there.
    """
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(task_root)
    sys.path[:] = search_path(task_root, environment.get("PYTHONPATH"))
    for path in [p for p in sys.path_importer_cache if p not in _STANDARD_PATH]:
        del sys.path_importer_cache[path]  # its folder was another one, or none, until now
    sys.argv[:] = [f"{RUNTIME_DIR}/bootstrap"]


def search_path(task_root: str, python_path: str | None) -> list[str]:
    """Lambda's ``sys.path``: the function, layers, the standard library, the runtime's folder.

    A ``PYTHONPATH`` of the user's own stands before the standard library and layers go to the
    end. Source: https://docs.aws.amazon.com/lambda/latest/dg/python-package.html
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    layers = [f"{LAYERS}/lib/{version}/site-packages", LAYERS]
    own = [path for path in (python_path or "").split(os.pathsep) if path and path != RUNTIME_DIR]
    order = [*own, *_STANDARD_PATH, *layers] if own else [*layers, *_STANDARD_PATH]
    return list(dict.fromkeys([task_root, *order, RUNTIME_DIR]))


def end_like_python(error: BaseException) -> NoReturn:
    """End the process as the interpreter would for what escaped from the main thread.

    ``SystemExit`` gives its code; anything else prints its traceback and exits 1; an interrupt
    ends by its signal. Threads that are no daemons are waited for, exit functions run.
    """
    code = 1
    try:
        if isinstance(error, SystemExit):
            code = _exit_code(error.code)
        else:
            tb = _user_frames(error)
            sys.excepthook(type(error), error.with_traceback(tb), tb)
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # as the interpreter's own end does
        atexit._run_exitfuncs()  # noqa: SLF001  # the same: there is no public way
    except BaseException:  # noqa: S110  # user hooks may raise anything: the process ends anyway
        pass
    leave(code, interrupted=isinstance(error, KeyboardInterrupt))


def leave(code: int, *, interrupted: bool = False) -> NoReturn:
    """Flush what was printed and end now."""
    for stream in (sys.stdout, sys.stderr):
        # The reader may have gone, or user code replaced the stream.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _user_frames(error: BaseException) -> TracebackType | None:
    """The traceback without the runtime's own frames at its start."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        tb = tb.tb_next
    return tb
