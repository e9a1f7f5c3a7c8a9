"""The ``X-Amzn-Trace-Id`` header.

Source: https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
"""

from __future__ import annotations

import re

_ACCEPTED = re.compile(rb"[A-Za-z0-9=;:_.@/+-]{1,512}")


def trace_id(given: bytes | None, request_id: str, wall_s: float) -> str:
    """The caller's trace header where it is well formed, else a new unsampled root.

    Example: ``Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0``.
    """
    if given is not None and _ACCEPTED.fullmatch(given):
        return given.decode("ascii")
    digits = request_id.replace("-", "")
    return f"Root=1-{int(wall_s):08x}-{digits[-24:]};Sampled=0"
