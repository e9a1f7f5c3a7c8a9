"""A sealer whose key is known, for tests."""

from __future__ import annotations

from pathlib import Path

from pilotlight.storage.sealing import FileSealer


def known_sealer(key: bytes = bytes(32)) -> FileSealer:
    """A sealer that every call with the same key makes alike."""
    return FileSealer({"test": key}, "test", Path("keys of a test"))
