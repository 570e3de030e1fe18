"""What fits: every device of a load, the most layers, the longest context, the best mix."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from estimator import aim
from estimator.card import Card, Range
from estimator.engines.llamacpp.context import PAD
from estimator.engines.llamacpp.load import Holding, Load
from estimator.errors import InputError
from estimator.families.base import MoE
from estimator.fit import Fit, together
from estimator.trace import value_of

CUBLAS = 32 * 1024 * 1024  # bytes: cuBLAS's workspace on the newest cards, the most that a handle takes by itself
LONGEST = 2**24  # tokens: no model keeps more
MOST, SURE = "low", "high"  # the end of what is needed that must be there: for an answer that is not no, and for yes


def need(held: Holding, card: Card, spread: tuple[float, float] = (1.0, 1.0)) -> Range:
    """What a device needs: its buffers and the driver's context; at the most cuBLAS's workspace too.

    spread: between which shares of their bytes the weights lie.
    """
    less, more = (round(value_of(held.weights) * (share - 1)) for share in spread)
    return Range(*(held.total + c + extra for c, extra in zip(card.context, (less, 0, CUBLAS + more), strict=True)))


def fits_of(load: Load, cards: tuple[Card, ...]) -> list[Fit]:
    """The fit of each device whose size is known, and of the machine where it and the host share one memory."""
    whole = machine(load, cards)
    return [*devices(load, cards), *([] if whole is None else [whole])]


def devices(load: Load, cards: tuple[Card, ...]) -> list[Fit]:
    """The fit of each device whose size is known."""
    pairs, spread = zip(load.devices, cards, strict=False), load.weights.spread
    return [Fit(need(held, card, spread), card.bytes, card.name) for held, card in pairs if card.bytes is not None]


def machine(load: Load, cards: tuple[Card, ...]) -> Fit | None:
    """The fit of devices and host together, in one memory; None where each has its own."""
    if not cards or cards[0].machine is None:
        return None
    needs = [f.need for f in devices(load, cards)]
    held = Range(*(sum(ends) for ends in zip(*needs, strict=True))) if needs else Range(0, 0, 0)
    return together(cards[0], held, load.host.total, len(cards))


def worst(fits: list[Fit]) -> Fit | None:
    """The fit that decides: the device with the least left over."""
    return min(fits, key=lambda f: f.margin, default=None)


def over(load: Load, cards: tuple[Card, ...], end: str = SURE) -> int:
    """Bytes missing where most are; not above 0 where none says no (``MOST``), or all say yes."""
    return _missing(fits_of(load, cards), end)


def _missing(fits: list[Fit], end: str) -> int:
    return max((int(value_of(getattr(f.need, end))) - f.have for f in fits), default=0)


def most_layers(load: Load, cards: tuple[Card, ...], *ends: str) -> list[Load]:
    """The load with the largest ``--gpu-layers`` that fits, by each of ``ends``; the output layer counts as one.

    Where the host shares the memory, the rest must fit beside it; else no layer fits.
    """
    made = cache(load.with_layers)

    def missing(end: str, n: int) -> int:
        return _missing(devices(made(n), cards), end)

    found = [made(most(load.place.layers + 1, partial(missing, end))) for end in ends]
    return [x if over(x, cards, end) <= 0 else made(0) for x, end in zip(found, ends, strict=True)]


def fewest_experts(load: Load, cards: tuple[Card, ...]) -> Load | None:
    """The load with the smallest ``--cpu-moe`` that surely fits: layers from the first on, their experts on the host.

    None: no such one, or a model without experts.
    """
    n = load.place.layers
    if not any(isinstance(x.mlp, MoE) for x in load.arch.layers):
        return None
    made = cache(load.with_experts)
    found = made(n - most(n, lambda stay: _missing(devices(made(n - stay), cards), SURE)))
    return found if over(found, cards) <= 0 else None


def longest(load: Load, cards: tuple[Card, ...], *ends: str) -> list[int | None]:
    """The longest ``--ctx-size`` that fits, by each of ``ends``, in whole blocks; 0: none does, None: every one."""
    unit = PAD * load.context.streams
    made = cache(load.with_context)

    def missing(end: str, blocks: int) -> int:
        try:
            return over(made(blocks * unit), cards, end)
        except InputError:
            return aim.LIMIT

    def found(end: str) -> int | None:
        if missing(end, LONGEST // unit) <= 0:
            return None
        return unit * (aim.longest(partial(missing, end), 0) or 0)

    return [found(end) for end in ends]


def most(limit: int, missing: Callable[[int], int]) -> int:
    """The largest n in 1..limit for which ``missing(n)``, which never shrinks, is not above 0; 0 where none is."""
    at_limit = missing(limit)
    if at_limit <= 0:
        return limit
    return aim.longest(lambda n: missing(n) if n < limit else at_limit, 0) or 0
