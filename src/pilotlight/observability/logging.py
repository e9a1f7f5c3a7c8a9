"""Pilotlight's own log: structured events on standard error, never a secret, never a payload."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

HIDDEN = "(hidden)"
_SECRET = re.compile(
    r"secret|password|passwd|token|authorization|signature|credential|private_key|payload",
    re.IGNORECASE,
)

_CHATTY = ("alembic", "uvicorn")
"""Libraries whose ``info`` says nothing that we do not say ourselves."""


def configure(*, output: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging to one stream. May be called again.

    Args:
        output: ``json``, ``console``, or ``auto``: console on a terminal, else JSON.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        stream: standard error by default.
    """
    target = stream or sys.stderr
    is_console = output == "console" or (output == "auto" and target.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty())
        if is_console
        else structlog.processors.JSONRenderer(default=str)
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    finish: list[Processor] = [] if is_console else [structlog.processors.format_exc_info]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # Loggers of the standard library give their fields as `extra`.
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *finish,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in _CHATTY:
        logger = logging.getLogger(chatty)
        logger.setLevel(logging.WARNING)
        # uvicorn's own configuration gives its logger a stream and ends propagation, for the whole
        # process, wherever a `uvicorn.Config` is made without `log_config=None`.
        logger.handlers.clear()
        logger.propagate = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def hide_secrets(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace the value of every field whose name speaks of a secret; the last line of defence."""
    del logger, method
    for name in event:
        if _SECRET.search(name):
            event[name] = HIDDEN
    return event
