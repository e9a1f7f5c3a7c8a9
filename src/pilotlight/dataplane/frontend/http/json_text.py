"""Checks of JSON text that build no objects."""

from __future__ import annotations

import json
import re
from typing import NoReturn

import msgspec

from pilotlight.model.errors import ApiError

_decoder = msgspec.json.Decoder(msgspec.Raw)
_WORD = re.compile(rb"\s*([A-Za-z_$][A-Za-z0-9_$]*)")
_SHOWN_BYTES = 100


def check_event(payload: bytes) -> None:
    """Make sure that an event is JSON, about as fast as it can be copied.

    The service refuses what is not JSON before any function sees it, NaN and Infinity included,
    which Python's own parser would take.

    Raises:
        ApiError: InvalidRequestContentException.
    """
    try:
        _decoder.decode(payload)
    except RecursionError:
        raise _invalid("the document is nested too deeply.") from None
    except msgspec.DecodeError as exc:
        # The fast check refuses lone surrogates, which are JSON: ask the exact one.
        try:
            json.loads(payload, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise _invalid(_describe(payload, str(exc))) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _invalid(detail: str) -> ApiError:
    return ApiError(
        "InvalidRequestContentException",
        f"Could not parse request body into json: Could not parse payload into json: {detail}",
    )


def _describe(payload: bytes, detail: str) -> str:
    word = _WORD.match(payload)
    if word is None:
        return detail
    shown = payload[:_SHOWN_BYTES].decode("utf-8", "replace")
    column = word.end() + 1
    return (
        f"Unrecognized token '{word[1][:_SHOWN_BYTES].decode('ascii')}': was expecting (JSON"
        " String, Number, Array, Object or token 'null', 'true' or 'false')\n"
        f' at [Source: (byte[])"{shown}"; line: 1, column: {column}]'
    )
