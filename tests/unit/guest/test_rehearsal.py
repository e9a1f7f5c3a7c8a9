"""A rehearsal leaves no trace that a function could see."""

from __future__ import annotations

import logging
import os
import sys

from pilotlight_guest.python import rehearsal
from pilotlight_guest.python.logs import Current


def traces() -> list[object]:
    root = logging.getLogger()
    return [
        dict(os.environ),
        list(sys.path),
        list(sys.argv),
        os.getcwd(),  # noqa: PTH109  # what the runtime itself would see
        root.level,
        list(root.handlers),
        set(sys.modules),
        Current.request_id,
        Current.tenant_id,
    ]


def test_everything_is_put_back() -> None:
    rehearsal.run()  # may import what it needs
    before = traces()

    rehearsal.run(2)

    assert traces() == before


def test_it_runs_to_its_end() -> None:
    with rehearsal._put_back():
        rehearsal._rehearse()
