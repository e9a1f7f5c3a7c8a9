"""The real source of identities."""

from __future__ import annotations

import os
import uuid

from pilotlight.kernel.system import SystemIds


def test_uuids_are_version_4_and_do_not_repeat() -> None:
    ids = SystemIds()
    made = [ids.uuid() for _ in range(2000)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_a_fork_does_not_repeat_the_identities_of_its_parent() -> None:
    ids = SystemIds()
    ids.uuid()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, ids.uuid().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writable)
    theirs = os.read(readable, 100).decode()
    os.close(readable)
    assert len(theirs) == 36
    assert theirs not in [ids.uuid() for _ in range(300)]
