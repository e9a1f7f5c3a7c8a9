"""The life of one execution environment, as plain data.

An *execution environment* is one sandbox that holds one function version and
serves invocations on its slots. This module knows its states and nothing else.
"""

from __future__ import annotations

from enum import StrEnum


class EnvironmentState(StrEnum):
    """States of an execution environment; see ``docs/state-machines.md``."""

    CREATING = "creating"
    INITIALIZING = "initializing"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    DEAD = "dead"
