"""Archives with changed bytes: accepted or refused with a reason, never anything else.

In this process and without writing; the integration tests do the same through the real one.
"""

from __future__ import annotations

import io

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotlight.storage.packages.archive import Limits, Rejected, process
from pilotlight.storage.packages.intake import REASONS
from pilotlight.testing.archives import FILE, LINK, archive, directory_of

BASE = archive(
    [
        ("app.py", b"def handler(event, context): return event\n" * 30, FILE),
        ("lib/", b"", 0o040755),
        ("lib/data", bytes(range(256)), FILE),
        ("lib/link", b"data", LINK),
    ]
)
LIMITS = Limits(size=100_000, entries=20, ratio=50, ratio_from=10_000)
interesting = st.sampled_from([0, 1, 0x2E, 0x2F, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
places = st.integers(0, len(BASE) - 1) | st.integers(directory_of(BASE), len(BASE) - 1)


def judged(package: bytes) -> str:
    try:
        answer = process(io.BytesIO(package), LIMITS, writes=False)
    except Rejected as rejection:
        return rejection.reason
    size, files = answer["bytes"], answer["files"]
    assert isinstance(size, int)
    assert isinstance(files, int)
    assert size < LIMITS.size
    assert files <= LIMITS.entries
    return "ok"


def test_the_base_is_accepted() -> None:
    assert judged(BASE) == "ok"


@settings(max_examples=400)
@given(st.lists(st.tuples(places, interesting), min_size=1, max_size=5))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    body = bytearray(BASE)
    for place, value in changes:
        body[place] = value
    assert judged(bytes(body)) in REASONS | {"ok"}


@settings(max_examples=200)
@given(places, st.integers(1, 80), st.booleans())
def test_pieces_missing_or_repeated(place: int, size: int, repeat: bool) -> None:  # noqa: FBT001
    piece = BASE[place : place + size]
    rest = BASE[place:] if repeat else BASE[place + size :]
    assert judged(BASE[:place] + (piece if repeat else b"") + rest) in REASONS | {"ok"}


@given(st.binary(max_size=200))
@example(b"PK\x05\x06" + bytes(18))
@example(b"PK\x05\x06" + b"\xff" * 18)
@example(b"PK\x06\x06" + bytes(52) + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + b"\xff" * 18)
def test_any_bytes(package: bytes) -> None:
    assert judged(package) in REASONS
