"""The largest whole number for which a need that grows with it still fits."""

from __future__ import annotations

from collections.abc import Callable

LIMIT = 2**62
FAR = 2**10  # times as far as was seen is no line followed
BEYOND = 2**10  # needs asked behind one that does not fit: eight times the 128 tokens of the longest pool of a model


def longest(need: Callable[[int], int], room: int, ripple: tuple[int, int] = (1, 0)) -> int | None:
    """The largest n >= 0 up to which ``need`` is <= room; None where all fit (bounded caches).

    ``ripple``, (n, bytes): what n more need is never less, and of fewer more never less by so many bytes; looked at as
    far as BEYOND. For a need that never shrinks, (1, 0).
    """
    found = _aimed(need, room)
    span, fall = ripple
    end = n = LIMIT if found is None else found
    for _ in range(min(span - 1, BEYOND)):  # does a smaller one not fit? what fits does whole spans before, too
        if n <= 1:
            break
        n -= 1
        at = need(n)
        if at > room:
            n = _first(need, room, n, span)
            end = n - 1
        elif at <= room - fall:
            break
    return None if end == LIMIT else end


def _first(need: Callable[[int], int], room: int, n: int, span: int) -> int:
    """The smallest of n, n - span, n - 2 span ... for which ``need`` is beyond room."""
    low, high = -1, (n - 1) // span  # of what is left when n falls by whole spans
    least = n - high * span
    while high - low > 1:
        at = (low + high) // 2
        low, high = (low, at) if need(least + at * span) > room else (at, high)
    return least + high * span


def _aimed(need: Callable[[int], int], room: int) -> int | None:
    """An n that fits where n + 1 does not; the largest, for a need that never shrinks.

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
