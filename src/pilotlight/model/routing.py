"""Which version an alias means this time, when it means two of them.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Draw = Callable[[], float]
"""A uniform random number from 0 up to 1, 1 excluded."""


def chosen(version: str, weights: Mapping[str, float], draw: Draw) -> str:
    """The version for one invocation.

    Args:
        version: gets what the weights leave.
        weights: shares from 0 to 1 of other versions; their sum is at most 1.
        draw: called once, and only where there are weights.
    """
    if not weights:
        return version
    left = draw()
    for number, weight in weights.items():
        left -= weight
        if left < 0:
            return number
    return version
