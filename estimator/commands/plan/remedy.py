"""What would give a plan a row where nothing fits: the same search with other options, and the best row that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from estimator.commands.plan.question import Searched
from estimator.commands.plan.search import Reasons, RowLimit, Way, pareto, within
from estimator.errors import InputError
from estimator.records import NamedTuple

Q = TypeVar("Q", bound=Searched)
Rows = Callable[[Q], Sequence[Way]]


class Remedy(NamedTuple):
    """Options that give a row, as they are typed, and the best row that there is with them."""

    flags: str
    way: Way


def remedy(q: Q, why: Reasons, have: Sequence[int], most: int, limits: Sequence[RowLimit], rows: Rows[Q],
           stored: Sequence[str] = ()) -> Remedy | None:  # fmt: skip
    """The first change after which something is within the limits: weights in fewer bits, more GPUs, another card.

    have: the counts of GPUs that were tried; most: GPUs that are looked at; rows: those of a question; stored: formats
    of the weights. Only the card that lacks least is asked for more GPUs. None where nothing lacked memory, or no
    change helps.
    """
    if not why.short:
        return None
    nearest = why.nearest

    def best(fields: dict[str, Any]) -> Way | None:
        try:
            kept, _ = within(rows(replace(q, **fields)), limits, "")
        except InputError:
            return None
        return pareto(kept)[0] if kept else None

    @cache
    def on_more(n: int) -> Way | None:
        return best({"gpu": nearest, "gpus": str(n)})

    def tries() -> Iterator[tuple[str, Way | None]]:
        for name in stored:
            yield f"--quantization {name}", best({"gpu": nearest, "quantization": name})
        more = [n for n in (2**k for k in range(most.bit_length())) if max(have) < n <= most]
        if more and on_more(more[-1]) is not None:
            yield from ((f"--gpus {n}", on_more(n)) for n in more)
        if q.gpu.strip().lower() != "all":
            yield "--gpu all", best({"gpu": "all"})

    return next((Remedy(flags, way) for flags, way in tries() if way is not None), None)
