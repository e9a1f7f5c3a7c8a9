"""Rate limits: a bucket for each account, and one for each of its keys.

Only proven callers are charged: whoever knows a key's id, which is no secret, must not be able to
use up its calls. Texts and fields are those of TooManyRequestsException
(https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pilotlight.model.errors import ApiError
from pilotlight.model.rates import AT_REST, Rate, after, wait_s
from pilotlight.ports.clock import Clock

REASON: Final = "CallerRateLimitExceeded"
_KEPT: Final = 8192
"""Buckets kept; beyond it those that are full are forgotten, for they say nothing."""


class _Account:
    __slots__ = ("full_s",)

    def __init__(self) -> None:
        self.full_s = AT_REST


class _Key:
    __slots__ = ("account", "full_s", "name")

    def __init__(self, name: str, account: _Account) -> None:
        self.name = name
        self.account = account
        self.full_s = AT_REST


class CallerRates:
    """`RateLimits` of one kind of calls.

    Args:
        account: what one account may do with all its keys.
        key: what one key may do; larger than the account's has no effect.
        clock: monotonic seconds are used.
    """

    def __init__(self, *, account: Rate, key: Rate, clock: Clock) -> None:
        self._account = account
        self._key = key
        self._now: Callable[[], float] = clock.monotonic
        self._accounts: dict[str, _Account] = {}
        self._keys: dict[str, _Key] = {}

    def charge(self, account: str, access_key: str) -> None:
        """See the port."""
        now_s = self._now()
        bucket = self._keys.get(access_key)
        if bucket is None or bucket.name != account:
            bucket = self._open(account, access_key, now_s)
        whole = bucket.account
        of_key = after(bucket.full_s, now_s, self._key)
        of_account = after(whole.full_s, now_s, self._account)
        wait = max(wait_s(of_key, now_s, self._key), wait_s(of_account, now_s, self._account))
        if wait > 0:
            raise _too_many(wait)
        bucket.full_s = of_key
        whole.full_s = of_account

    def _open(self, account: str, access_key: str, now_s: float) -> _Key:
        if len(self._keys) >= _KEPT:
            self._forget(now_s)
        whole = self._accounts.setdefault(account, _Account())
        bucket = self._keys[access_key] = _Key(account, whole)
        return bucket

    def _forget(self, now_s: float) -> None:
        """Drop buckets that are full again, and accounts that no key is left of."""
        self._keys = {name: key for name, key in self._keys.items() if key.full_s > now_s}
        used = {key.name for key in self._keys.values()}
        self._accounts = {
            name: bucket
            for name, bucket in self._accounts.items()
            if name in used or bucket.full_s > now_s
        }


def _too_many(wait_s: float) -> ApiError:
    return ApiError(
        "TooManyRequestsException",
        "Rate Exceeded.",
        Reason=REASON,
        retryAfterSeconds=str(max(1, math.ceil(wait_s))),
    )
