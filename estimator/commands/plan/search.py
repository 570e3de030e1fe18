"""What the searches share: cards and counts from their options, rows with their commands, the best of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from estimator import presets
from estimator.commands.plan.figure import PlanAxes, points
from estimator.errors import InputError, LlmcalcError
from estimator.models import Model
from estimator.records import NamedTuple, dataclass
from estimator.report import Cell, Node, Report, Table
from estimator.sizes import size_option
from estimator.units import BYTES, COUNT, HOURS, TOKEN_RATE, USD, human, human_seconds, parse_size

MOST_COUNTS = 64
NOTHING = "no way was tried"
T = TypeVar("T")
W = TypeVar("W", bound="Way")


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

    @property
    def order(self) -> tuple[float, ...]:
        """The cheaper first, then the faster."""
        return self.cost, self.hours


def command_line(model: Model, words: Iterable[tuple[str, Any]], name: str = "train") -> str:
    """``llmcalc NAME --model MODEL --flag value ...``: the model as it was asked for."""
    text, *overrides = model.asked or (model.name,)
    named = [("model", text), *(("set", x) for x in overrides), *((("part", model.part),) if model.part else ())]
    parts = [
        f"--{flag.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
        for flag, value in (*named, *words)
    ]
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


def number(text: Any, flag: str, field: str, kind: str = "count") -> Any:
    """A size of the question as the int that it stands for; a list or a range of them as it was typed."""
    return text if text is None or "," in str(text) or ".." in str(text) else size_option(None, text, flag, field, kind)


def watched(items: Sequence[T], what: str, do: Callable[[T], None]) -> str:
    """``do`` each item, with a progress bar on a terminal. Ctrl-C ends it: what was found so far stands, and "stopped
    after N of M" is returned, to be said; else nothing."""
    done = 0
    try:
        if len(items) > MOST_COUNTS and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import track

            for item in track(items, description=what, transient=True, console=Console(stderr=True)):
                do(item)
                done += 1
        else:
            for item in items:
                do(item)
                done += 1
    except KeyboardInterrupt:
        return f"stopped by Ctrl-C after {done:,} of {len(items):,}: the rows are the best of those"
    return ""


def pareto(rows: Sequence[W]) -> list[W]:
    """Those that no other row beats in both hours and dollars, cheapest first; the rest behind them, cheapest first."""
    ordered = sorted(rows, key=lambda r: r.order)
    best: list[W] = []
    fastest = float("inf")
    for row in ordered:
        if row.hours < fastest:
            best.append(row)
            fastest = row.hours
    return [*best, *(r for r in ordered if r not in best)]


class Shortfall(NamedTuple):
    """What keeps a way from being a row: bytes a GPU that it lacks, else the requests a second that it can serve."""

    bytes: int
    rate: float
    where: str

    @property
    def words(self) -> str:
        """By how much."""
        if self.rate:
            return f"the most is {self.rate:.3g} requests a second, by {self.where}"
        return f"the closest is {self.where}, which lacks {human(self.bytes, BYTES)} a GPU"


class Reasons:
    """Why cards have no row: by card, the way that lacks least (keeps up best), and what was refused."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(dict.fromkeys(names))
        self.short: dict[str, Shortfall] = {}
        self.refused: dict[str, LlmcalcError] = {}

    def lacks(self, gpu: str, found: Shortfall) -> None:
        """A way on this card that is no row."""
        known = self.short.get(gpu)
        if known is None or _order(found) < _order(known):
            self.short[gpu] = found

    def refuses(self, gpu: str, error: LlmcalcError) -> None:
        """A way on this card that cannot be run."""
        self.refused.setdefault(gpu, error)

    @property
    def most(self) -> float:
        """Requests a second that the best way keeps up with, of those that are no rows."""
        return max((x.rate for x in self.short.values()), default=0.0)

    @property
    def nearest(self) -> str:
        """The card that lacks least, or keeps up best."""
        return min(self.short, key=lambda gpu: _order(self.short[gpu]))

    def nothing(self, otherwise: str) -> str:
        """Why there is no row at all; ``otherwise``: where no way lacks memory and none is refused."""
        if self.short:
            least = self.short[self.nearest]
            return f"{'Nothing keeps up' if least.rate else 'Nothing fits'}: {least.words}."
        if self.refused:
            return f"Nothing can be run: {next(iter(self.refused.values()))}"
        return otherwise

    def absent(self, rows: Sequence[Any], shown: Sequence[Any], limits: Sequence[RowLimit], words: Callable[[Any], str],
               otherwise: str) -> list[tuple[str, str]]:  # fmt: skip
        """(card, why) for each that is not ``shown``; rows: all that fit, within the limits or not."""
        out = []
        for gpu in self.names:
            if any(r.gpu == gpu for r in shown):
                continue
            own = [r for r in rows if r.gpu == gpu]
            kept, said = within(own, limits, "")
            if kept:
                why = f"others come first; its cheapest: {words(min(kept, key=lambda r: r.order))}"
            elif own:
                why = said.removeprefix("Nothing is within the limits: ").rstrip(".")
            elif gpu in self.short:
                why = self.short[gpu].words
            else:
                why = str(self.refused.get(gpu, otherwise))
            out.append((gpu, why))
        return out


def _order(x: Shortfall) -> tuple[float, int, str]:
    return -x.rate, x.bytes, x.where


class RowLimit(NamedTuple):
    """What a row may take at most (None: no limit), how much it takes, and how the least of all rows is said."""

    most: float | None
    of: Callable[[Any], float]
    said: Callable[[float, float], str]


def run_limits(days: float | None, usd: float | None) -> list[RowLimit]:
    """The limits of a run: its days and its dollars."""
    return [
        RowLimit(days, lambda r: r.hours / 24, lambda x, most: f"the fastest takes {x:.3g} days of {most:g}"),
        RowLimit(usd, lambda r: r.cost, lambda x, most: f"the cheapest costs ${x:,.2f} of ${most:,.2f}"),
    ]


def within(rows: Sequence[W], limits: Sequence[RowLimit], none: str) -> tuple[list[W], str]:
    """(rows inside the limits, or where there are none, which limit decided and by how much; none: of no rows)."""
    if not rows:
        return [], none
    held = [(x, x.most) for x in limits if x.most is not None]
    kept = [r for r in rows if all(x.of(r) <= most for x, most in held)]
    if kept:
        return kept, ""
    least = [(x, most, min(x.of(r) for r in rows)) for x, most in held]
    said = [x.said(low, most) for x, most, low in least if low > most]
    return [], "Nothing is within the limits: " + (", ".join(said) or "none meets all of them at once") + "."


COLUMNS = ("gpus", "layout", "hours", "USD", "tokens/s", "needs a GPU")


def run_cells(r: Way) -> tuple[str | Cell | None, ...]:
    """The cells of a run's row."""
    return (
        f"{r.gpus:,} x {r.gpu}", r.layout, Cell(r.hours, HOURS), None if r.usd is None else Cell(r.usd, USD),
        Cell(r.tokens_per_second, TOKEN_RATE), Cell(r.need_bytes, BYTES),
    )  # fmt: skip


def run_words(r: Way) -> str:
    """A run in words: where, how long, how much."""
    price = "" if r.usd is None else f" for ${r.usd:,.2f}"
    return f"{r.gpus:,} x {r.gpu}, {r.layout}: {human_seconds(3600 * r.hours)}{price}"


class RowStyle(NamedTuple):
    """How rows are shown: columns, cells and words of a row, axes of the picture; run: its hours and dollars."""

    columns: tuple[str, ...] = COLUMNS
    cells: Callable[[Any], tuple[str | Cell | None, ...]] = run_cells
    words: Callable[[Any], str] = run_words
    axes: PlanAxes = PlanAxes()


RUN = RowStyle()


class LayoutsTried(NamedTuple):
    """How many layouts were tried, and how many of them fit, within the limits or not."""

    tried: int
    fit: int


def report(kind: str, title: str, inputs: dict[str, Any], every: Sequence[Way], limits: Sequence[RowLimit],
           top: int, why: Reasons, notes: Sequence[str], n: LayoutsTried, none: str = NOTHING, how: RowStyle = RUN,
           other: tuple[str, Way] | None = None) -> Report:  # fmt: skip
    """The rows best first: those on the border of hours against dollars, cheapest to fastest, then the others.

    every: rows within ``limits`` or not; why: of the cards that have none; none: what is said where nothing was tried;
    other: where there are no rows, options that give one, and the best one then.
    """
    rows, said = within(every, limits, why.nothing(none))
    ordered = pareto(rows)
    shown, border = ordered[:top], _border(ordered)
    first = min(border, len(shown))
    note = f"the first {first} rows: none is both faster and cheaper" if first > 1 else ""
    body: list[Any] = [Table("", how.columns, tuple(how.cells(r) for r in shown), note)] if shown else []
    if shown:
        body.append(Node.group("Commands", [Node("", r.command, None, None) for r in shown[:3]]))
        said = f"Cheapest: {how.words(ordered[0])}."
        quick = min(ordered, key=lambda r: r.hours)
        said += "" if quick is ordered[0] else f" Fastest: {how.words(quick)}."
    elif other is not None:
        flags, way = other
        said += f" With {flags}: {how.words(way)}."
        body.append(Node.group("With other options", [Node("", way.command, None, None)]))
    alone = len(why.names) == 1  # the verdict says it
    absent = [] if alone else why.absent(every, shown, limits, how.words, none)
    body += [Table("Cards without a row", ("GPU", "why"), tuple(absent))] if absent else []
    body.append(
        Node.group("", [Node("tried", "Layouts tried", n.tried, COUNT), Node("found", "that fit", n.fit, COUNT)])
    )
    facts: dict[str, Any] = {"fits": "yes" if shown else "no"}
    kept = [{f.name: getattr(r, f.name) for f in fields(r)} for r in shown]
    facts |= {f"best.{k}": v for row in kept[:1] for k, v in row.items() if not isinstance(v, str)}
    return Report(f"plan {kind}", title, inputs, tuple(body), facts, tuple(notes), verdict=said, rows=tuple(kept),
                  figure=lambda: points(title, ordered, border, how.axes))  # fmt: skip


def _border(ordered: Sequence[Way]) -> int:
    """How many rows at the front are on the border."""
    fastest, n = float("inf"), 0
    for row in ordered:
        if row.hours >= fastest:
            break
        fastest, n = row.hours, n + 1
    return n
