"""What the driver may ask of the launcher: a closed vocabulary, checked field by field. Pure.

One SOCK_SEQPACKET message each way, JSON, descriptors beside it. There are only numbers, digests
and names out of patterns: never a path, never an argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

MESSAGE_BYTES = 4096
DESCRIPTORS_MAX = 16

_TENANT = re.compile(r"[0-9]{12}\Z")
_RUNTIME = re.compile(r"[a-z]+[0-9a-z.]{0,30}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_NUMBER_MAX = 2**53

_RANGES = {
    "memory_mib": (32, 1 << 20),
    "cpu_millis": (1, 1 << 20),
    "pids_max": (4, 1 << 16),
    "ephemeral_mib": (1, 1 << 16),
}


class ProtocolViolation(Exception):
    """A message that no honest peer sends."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of one sandbox; units are in the names."""

    memory_mib: int
    cpu_millis: int
    pids_max: int
    ephemeral_mib: int


BLANK_LIMITS = Limits(memory_mib=128, cpu_millis=100, pids_max=64, ephemeral_mib=512)
"""Until a claim says more: enough for a runtime that waits."""


@dataclass(frozen=True, slots=True)
class Make:
    """Fork a sandbox; a blank one when there is no code."""

    n: int
    key: int
    tenant: str
    runtime: str
    limits: Limits
    code: str | None
    layers: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Give a blank sandbox its limits and its code."""

    n: int
    key: int
    limits: Limits
    code: str
    layers: str | None = None


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send SIGTERM to a sandbox."""

    n: int
    key: int


@dataclass(frozen=True, slots=True)
class Destroy:
    """Kill a sandbox; answered when nothing of it is left."""

    n: int
    key: int


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove what former launchers of this data directory left."""

    n: int


Request = Make | Claim | Terminate | Destroy | Clean

_WORDS: Mapping[str, type[Request]] = {
    "make": Make,
    "claim": Claim,
    "terminate": Terminate,
    "destroy": Destroy,
    "clean": Clean,
}
_NAMES = {kind: word for word, kind in _WORDS.items()}
_FIELDS: Mapping[str, frozenset[str]] = {
    "make": frozenset({"do", "n", "key", "tenant", "runtime", "limits", "code", "layers"}),
    "claim": frozenset({"do", "n", "key", "limits", "code", "layers"}),
    "terminate": frozenset({"do", "n", "key"}),
    "destroy": frozenset({"do", "n", "key"}),
    "clean": frozenset({"do", "n"}),
}


def encode(request: Request) -> bytes:
    """One request as a message."""
    fields: dict[str, object] = {"do": _NAMES[type(request)]}
    for name in _FIELDS[str(fields["do"])] - {"do"}:
        value = getattr(request, name)
        fields[name] = _limits_as_list(value) if isinstance(value, Limits) else value
    return json.dumps(fields, separators=(",", ":")).encode()


def decode(message: bytes) -> Request:
    """The request in a message.

    Raises:
        ProtocolViolation: anything is not exactly as it must be.
    """
    if len(message) >= MESSAGE_BYTES:
        raise ProtocolViolation("too long")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation("not JSON") from error
    if not isinstance(fields, dict):
        raise ProtocolViolation("not an object")
    word = fields.get("do")
    if not isinstance(word, str) or word not in _WORDS or fields.keys() != _FIELDS[word]:
        raise ProtocolViolation("unknown request")
    return _request(word, fields)


def _request(word: str, fields: Mapping[str, object]) -> Request:
    n = _number(fields["n"], 0, _NUMBER_MAX)
    if word == "clean":
        return Clean(n)
    key = _number(fields["key"], 1, _NUMBER_MAX)
    if word == "terminate":
        return Terminate(n, key)
    if word == "destroy":
        return Destroy(n, key)
    limits = _limits(fields["limits"])
    layers = None if fields["layers"] is None else _text(fields["layers"], _DIGEST)
    if word == "claim":
        return Claim(n, key, limits, _text(fields["code"], _DIGEST), layers)
    code = None if fields["code"] is None else _text(fields["code"], _DIGEST)
    if code is None and layers is not None:
        raise ProtocolViolation("a blank has no layers")
    tenant, runtime = _text(fields["tenant"], _TENANT), _text(fields["runtime"], _RUNTIME)
    return Make(n, key, tenant, runtime, limits, code, layers)


def _limits_as_list(limits: Limits) -> list[int]:
    return [limits.memory_mib, limits.cpu_millis, limits.pids_max, limits.ephemeral_mib]


def _limits(value: object) -> Limits:
    if not isinstance(value, list) or len(value) != len(_RANGES):
        raise ProtocolViolation("limits")
    return Limits(*(_number(v, *_RANGES[name]) for v, name in zip(value, _RANGES, strict=True)))


def _number(value: object, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise ProtocolViolation("number")
    return value


def _text(value: object, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise ProtocolViolation("text")
    return value


@dataclass(frozen=True, slots=True)
class Reply:
    """The launcher's answer to request ``n``.

    Attributes:
        error: why it failed, for people; None on success.
        phases_us: microseconds by step.
        names: what each descriptor beside the message is, in order.
        count: leftovers removed, for `Clean`.
    """

    n: int
    error: str | None = None
    phases_us: Mapping[str, int] | None = None
    names: tuple[str, ...] = ()
    count: int = 0


def encode_reply(reply: Reply) -> bytes:
    """One reply as a message."""
    fields = {
        "n": reply.n,
        "error": reply.error[:2000] if reply.error else None,
        "phases_us": dict(reply.phases_us or {}),
        "names": reply.names,
        "count": reply.count,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def decode_reply(message: bytes) -> Reply:
    """The reply in a message; the launcher is trusted, so only its shape is relied on."""
    fields = json.loads(message)
    return Reply(
        n=fields["n"],
        error=fields["error"],
        phases_us=fields["phases_us"],
        names=tuple(fields["names"]),
        count=fields["count"],
    )
