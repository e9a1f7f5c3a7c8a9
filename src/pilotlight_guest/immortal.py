"""Objects that are not counted any more, so that forks go on sharing the pages they are on.

An interpreter counts references inside the objects: a fork that only looks at a module copies the
page it lies on. CPython 3.12 brought objects whose count stands still (PEP 683); all that is there
when a zygote is ready will live as long as it does, so nothing is lost by making it such. A copied
page costs 3 us and its 4 KiB in every sandbox; this spares a third of them.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import types

_PROVED = frozenset({(3, 12), (3, 13)})
"""Versions whose layout this was tried on. 3.14 has another count; older ones have no such objects."""
_IMMORTAL_FROM = 0x8000_0000
_PASSING = (types.FrameType, types.GeneratorType, types.CoroutineType)
"""What is running or will end: its end is seen by its count."""


def can_immortalize() -> bool:
    """Whether this interpreter has uncounted objects in the form that is known here."""
    return (
        sys.version_info[:2] in _PROVED
        and sys.implementation.name == "cpython"
        and sys.byteorder == "little"
        and sys.maxsize > 2**32
        and not set(sys.abiflags) & {"d", "t"}
        and _count_word(None) >= _IMMORTAL_FROM
    )


def immortalize() -> int:
    """Make everything that is reachable now uncounted; return how many objects. For good.

    Nothing is done, and 0 returned, where `can_immortalize` says no. To be called in a process
    with one thread, when all that forks will share has been imported.
    """
    if not can_immortalize():
        return 0
    word = _count_word(None)
    todo = gc.get_objects()
    ours = {id(todo)}
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        address = id(one)
        if address in seen or address in ours or isinstance(one, _PASSING):
            continue
        seen.add(address)
        todo.extend(gc.get_referents(one))
    write = ctypes.c_uint32.from_address
    for address in seen:
        write(address).value = word
    return len(seen)


def _count_word(one: object) -> int:
    """The word in which the interpreter's sign for "not counted" is."""
    return ctypes.c_uint32.from_address(id(one)).value
