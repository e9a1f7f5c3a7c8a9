"""The event stream encoding of AWS: ``application/vnd.amazon.eventstream``.

A message is ``u32 length · u32 header length · u32 CRC of these eight bytes · headers · payload ·
u32 CRC of all before``, big endian, CRC-32 as in Ethernet. Length counts the whole message. A header
is ``u8 name length · name · u8 type · value``; only strings (type 7: ``u16 length · UTF-8``) are written
here. Source: https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_STRING = 7


def event(kind: str, content_type: str, payload: bytes) -> bytes:
    """One event of a stream, as an AWS SDK reads it.

    Args:
        kind: name of the event in the service's model.
        content_type: of the payload.
        payload: at most 16 MiB.
    """
    return message(
        {":event-type": kind, ":content-type": content_type, ":message-type": "event"}, payload
    )


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message; names and values of headers are short texts."""
    head = b"".join([_header(name, value) for name, value in headers.items()])
    length = _PRELUDE.size + _CRC.size + len(head) + len(payload) + _CRC.size
    prelude = _PRELUDE.pack(length, len(head))
    prelude += _CRC.pack(zlib.crc32(prelude))
    body = b"".join((prelude, head, payload))
    return body + _CRC.pack(zlib.crc32(body))


def _header(name: str, value: str) -> bytes:
    named, valued = name.encode("ascii"), value.encode()
    return struct.pack(">B", len(named)) + named + struct.pack(">BH", _STRING, len(valued)) + valued
