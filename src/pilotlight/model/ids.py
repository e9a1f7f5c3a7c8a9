"""Names of things, as types. All are plain strings at run time."""

from __future__ import annotations

from typing import NewType

AccountId = NewType("AccountId", str)
"""Twelve digits; an account is a tenant."""

EnvironmentId = NewType("EnvironmentId", str)
"""Identity of one execution environment and its sandbox: ``[a-z0-9-]{1,48}``."""

RequestId = NewType("RequestId", str)
"""A UUID in its 36-character form, one for each invocation and each API call."""

Digest = NewType("Digest", str)
"""SHA-256 of content in 64 lower-case hexadecimal digits."""

RuntimeName = NewType("RuntimeName", str)
"""Name of a runtime as the API knows it, for example ``python3.12``."""
