"""What every answer of the Lambda API has in common."""

from __future__ import annotations

from dataclasses import dataclass

JSON_TYPE = b"application/json"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One HTTP answer. Whoever sends it adds ``Content-Length`` and ``Date``.

    Attributes:
        headers: (name, value) in order, with the service's spelling of names.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def header(name: str, value: str) -> tuple[bytes, bytes]:
    """Encode one header; control characters become blanks, so no value can end its line."""
    clean = "".join(" " if ord(c) < 0x20 or ord(c) == 0x7F else c for c in value)  # noqa: PLR2004 - ASCII
    return name.encode("ascii"), clean.encode("utf-8", "replace")
