"""Markers of paged lists: opaque to clients, checked when they come back."""

from __future__ import annotations

import base64
import binascii

from pilotlight.control.api.limits import invalid

_PREFIX = "1:"


def encode_marker(last: str) -> str:
    """The marker for the page after ``last``."""
    return base64.urlsafe_b64encode((_PREFIX + last).encode()).decode("ascii")


def decode_marker(marker: str | None) -> str:
    """What the page comes after, "" for the first one.

    Raises:
        ApiError: InvalidParameterValueException, it is no marker of ours.
    """
    if not marker:
        return ""
    try:
        text = base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith(_PREFIX):
        raise invalid(f"Invalid Marker: '{marker[:100]}'. Use the NextMarker of a previous answer.")
    return text.removeprefix(_PREFIX)
