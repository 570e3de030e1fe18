"""What both searches share: cards and counts from their options, rows with their commands, the best of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from estimator import presets
from estimator.errors import InputError
from estimator.report import Cell, Node, Report, Table
from estimator.units import BYTES, COUNT, HOURS, TOKEN_RATE, USD, human_seconds, parse_size

MOST_COUNTS = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do it: a row.

    command     the whole command line, which gives the same figures; layout: the options that were chosen, in words
    need_bytes  a GPU; hours and usd of the run, tokens_per_second over all GPUs
    """

    command: str
    layout: str
    gpu: str
    gpus: int
    fits: str
    need_bytes: int
    hours: float
    usd: float | None
    tokens_per_second: float

    @property
    def cost(self) -> float:
        return float("inf") if self.usd is None else self.usd


def command_line(words: Iterable[tuple[str, Any]], name: str = "train") -> str:
    """``llmcalc NAME --flag value ...``."""
    parts = [f"--{flag.replace('_', '-')} {shlex.quote(str(value))}" for flag, value in words]
    return " ".join(["llmcalc", name, *parts])


def cards(text: str) -> list[str]:
    """The presets of ``--gpu``: names with commas, or ``all`` with a dated price. InputError for unknown names."""
    if text.strip().lower() == "all":
        return [name for name in presets.ids("gpus") if presets.load_gpu(name).prices]
    return [presets.load_gpu(name.strip()).id for name in text.split(",") if name.strip()]


def counts(text: Any, flag: str = "--gpus") -> list[int]:
    """``8``, ``1,2,8`` or ``64..512`` (its ends and the powers of two between them)."""
    low, dots, high = str(text).partition("..")
    if not dots:
        return sorted({parse_size(x, flag) for x in str(text).split(",")})
    first, last = parse_size(low, flag), parse_size(high, flag)
    if first > last:
        raise InputError(f"{flag} {text}: the range ends before it begins")
    powers = [2**k for k in range(MOST_COUNTS) if first < 2**k < last]
    return sorted({first, *powers, last})


def watched(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a progress bar on a terminal; Ctrl-C ends them and what was found so far stands."""
    try:
        if len(items) > MOST_COUNTS and sys.stderr is not None and sys.stderr.isatty():
            from rich.progress import track

            yield from track(items, description=what, transient=True)
        else:
            yield from items
    except KeyboardInterrupt:
        return


def pareto(rows: Sequence[Way]) -> list[Way]:
    """Those that no other row beats in both hours and dollars, cheapest first; the rest behind them, cheapest first."""
    ordered = sorted(rows, key=lambda r: (r.cost, r.hours))
    best, fastest = [], float("inf")
    for row in ordered:
        if row.hours < fastest:
            best.append(row)
            fastest = row.hours
    return [*best, *(r for r in ordered if r not in best)]


def within(rows: Sequence[Way], days: float | None, usd: float | None) -> tuple[list[Way], str]:
    """(rows inside the limits, or where there are none, which limit decided and by how much)."""
    if not rows:
        return [], "Nothing fits: no layout that was tried leaves a GPU enough memory."
    kept = [r for r in rows if (days is None or r.hours <= 24 * days) and (usd is None or r.cost <= usd)]
    if kept:
        return kept, ""
    fast, cheap = min(rows, key=lambda r: r.hours), min(rows, key=lambda r: r.cost)
    said = []
    if days is not None and fast.hours > 24 * days:
        said.append(f"the fastest takes {fast.hours / 24:.3g} days of {days:g}")
    if usd is not None and cheap.cost > usd:
        said.append(f"the cheapest costs ${cheap.cost:,.2f} of ${usd:,.2f}")
    return [], "Nothing is within the limits: " + (", ".join(said) or "none is both fast and cheap enough") + "."


def report(kind: str, title: str, inputs: dict[str, Any], rows: list[Way], top: int, said: str, notes: Sequence[str],
           tried: int) -> Report:  # fmt: skip
    """The rows best first: those on the border of hours against dollars, cheapest to fastest, then the others."""
    ordered = pareto(rows)
    border = _border(ordered)
    shown = ordered[:top]
    table = Table(
        "",
        ("gpus", "layout", "hours", "USD", "tokens/s", "needs a GPU"),
        tuple(
            (
                f"{r.gpus:,} x {r.gpu}", r.layout, Cell(r.hours, HOURS), None if r.usd is None else Cell(r.usd, USD),
                Cell(r.tokens_per_second, TOKEN_RATE), Cell(r.need_bytes, BYTES),
            )
            for r in shown
        ),
        f"the first {min(border, top)} rows: none is both faster and cheaper" if border > 1 and rows else "",
    )  # fmt: skip
    body: list[Any] = [table] if shown else []
    if shown:
        body.append(Node.group("Commands", [Node("", r.command, None, None) for r in shown[:3]]))
        said = f"Cheapest: {_words(ordered[0])}. Fastest: {_words(min(rows, key=lambda r: r.hours))}."
    body.append(
        Node.group("", [Node("tried", "Layouts tried", tried, COUNT), Node("found", "that fit", len(rows), COUNT)])
    )
    facts = {"fits": "yes" if shown else "no"}
    kept = [{f: getattr(r, f) for f in Way.__slots__} for r in shown]
    return Report(f"plan {kind}", title, inputs, tuple(body), facts, tuple(notes), verdict=said, rows=tuple(kept))


def _border(ordered: Sequence[Way]) -> int:
    """How many rows at the front are on the border."""
    fastest, n = float("inf"), 0
    for row in ordered:
        if row.hours >= fastest:
            break
        fastest, n = row.hours, n + 1
    return n


def _words(r: Way) -> str:
    price = "" if r.usd is None else f" for ${r.usd:,.2f}"
    return f"{r.gpus:,} x {r.gpu}, {r.layout}: {human_seconds(3600 * r.hours)}{price}"

