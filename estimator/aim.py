"""The largest whole number for which a need that grows with it still fits."""

from __future__ import annotations

from collections.abc import Callable

LIMIT = 2**62
FAR = 2**10  # times as far as was seen is no line followed


def longest(need: Callable[[int], int], room: int) -> int | None:
    """The largest n >= 0 with ``need(n)`` <= room, for a need that never shrinks; None where all fit (bounded caches).

    Aims along the line through the nearest two points, then looks close by: few needs are asked where it is nearly a
    line, and about twice as many as halving asks where it is not.
    """
    low, at_low = 1, need(1)
    if at_low > room:
        return 0
    before, at_before, high, at_high = 0, at_low, 0, at_low
    while not high:
        aim = 2 * low
        if at_low > at_before:
            aim = min(max(aim, low + (room - at_low) * (low - before) // (at_low - at_before) + 1), low * FAR)
        at = need(aim)
        if at > room:
            high, at_high = aim, at
        elif aim > LIMIT:
            return None
        else:
            before, at_before, low, at_low = low, at_low, aim, at
    step = 1
    while high - low > 1:
        aim = low + (room - at_low) * (high - low) // (at_high - at_low)
        for far in (0, step):
            if far:  # past the aim, on the side where the answer still is
                aim = low + far if aim == low else high - far
            if high - low > 1:
                aim = min(max(aim, low + 1), high - 1) if step < (high - low) // 2 else (low + high) // 2
                at = need(aim)
                low, at_low, high, at_high = (aim, at, high, at_high) if at <= room else (low, at_low, aim, at)
        step *= 8
    return low
