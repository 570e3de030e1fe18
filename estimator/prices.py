"""What an hour of a GPU costs: as given, or the median of the preset's dated quotes."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.records import NamedTuple

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec


class Price(NamedTuple):
    """USD a GPU and hour: the best guess and the range of the quotes; None where none is known."""

    usd: float | None
    low: float | None
    high: float | None
    note: str


def price_of(spec: GpuSpec, given: Any = None) -> Price:
    """The price of ``--price``, or the median of the preset's quotes. InputError for what is no price."""
    if given is not None:
        try:
            usd = float(str(given).strip().lstrip("$"))
        except ValueError:
            raise InputError(f"--price must be a number of USD a GPU-hour, got {str(given)[:40]!r}") from None
        if not 0 <= usd < 1e6:
            raise InputError(f"--price must be >= 0 USD a GPU-hour and below a million, got {str(given)[:40]}")
        return Price(usd, usd, usd, f"--price {usd:g} USD a GPU-hour")
    if not spec.prices:
        return Price(None, None, None, f"no price for {spec.id}: give --price USD a GPU-hour")
    quotes = sorted(p.usd_per_hour for p in spec.prices)
    dates = sorted(p.date for p in spec.prices)
    usd = median(quotes)
    return Price(
        usd, quotes[0], quotes[-1],
        f"{spec.id}: {usd:g} USD an hour, the median of {len(quotes)} quotes from {dates[0]} to {dates[-1]} "
        f"({quotes[0]:g} to {quotes[-1]:g})",
    )  # fmt: skip
