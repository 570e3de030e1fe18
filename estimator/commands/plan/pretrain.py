"""Layouts of a pre-training run: how many GPUs share a layer, a stack, a batch; what fits, how long, how much."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from math import gcd, inf
from typing import Any

from estimator.card import find_card
from estimator.commands.plan.pieces import JUST_BELOW, Pieces, Shape
from estimator.commands.plan.question import PreTrain
from estimator.commands.plan.remedy import remedy
from estimator.commands.plan.search import (
    LayoutsTried,
    Reasons,
    RowStyle,
    Shortfall,
    Way,
    cards,
    command_line,
    counts,
    number,
    report,
    run_limits,
    watched,
)
from estimator.commands.train.question import Train
from estimator.commands.train.report import answer as timed
from estimator.errors import InputError, LlmcalcError
from estimator.families.base import MoE
from estimator.fit import YES, need
from estimator.presets import load_gpu
from estimator.questions import ask
from estimator.records import NamedTuple, dataclass
from estimator.report import Cell, Report, numbers_of
from estimator.roofline import dense_peak
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import BYTES, KILO, PERCENT, RATIO, SECONDS, USD

MOST_GPUS = 512  # that are looked at where nothing fits
TENSOR = (1, 2, 4, 8)  # inside a node
MICRO = (1, 2, 4, 8)
MOST_STAGES = 64
POWERS = (1, 2, 4, 8, 16, 32, 64)  # GPUs that share a sequence, or the experts
LEAST_TOKENS = 4096  # of a sequence on a GPU that shares it: where 8,192 GPUs train Llama 3 405B (table 4), 8,192
RECIPE = "megatron"
TOKENS = "1T"
STAGES = (1, 2, 3)  # Megatron-LM's distributed optimizer; gradients, and weights, sharded too (Megatron-FSDP)


@dataclass(frozen=True, slots=True)
class TrainedWay(Way):
    """One way to train: a row. step_seconds and mfu of a step, energy_kwh of the run."""

    step_seconds: float
    mfu: float
    energy_kwh: float | None


def cells(r: TrainedWay) -> tuple[str | Cell | None, ...]:
    """The cells of a row."""
    return (
        f"{r.gpus:,} x {r.gpu}", r.layout, Cell(r.step_seconds, SECONDS), Cell(100 * r.mfu, PERCENT),
        Cell(r.hours / 24, RATIO), None if r.usd is None else Cell(r.usd, USD),
        None if r.energy_kwh is None else Cell(r.energy_kwh / KILO, RATIO), Cell(r.need_bytes, BYTES),
    )  # fmt: skip


STYLE = RowStyle(("gpus", "layout", "step", "MFU", "days", "USD", "MWh", "needs"), cells)


class Fitting(NamedTuple):
    """A layout that fits: where it stands among those tried, its shape, ZeRO stage, card, and least seconds a step."""

    place: int
    shape: Shape
    stage: int
    gpu: str
    seconds: float


def pretrain(q: PreTrain) -> Report:
    """The report of a question."""
    q = q if q.tokens is not None else replace(q, tokens=TOKENS)
    if q.model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to plan with: give a preset or a config.json")
    size_option(q.model, str(q.tokens), "--tokens", "tokens")  # refused here, not once for every layout
    return reported(Search(q))


def reported(found: Search) -> Report:
    """The report of a search."""
    q = found.q
    rows = found.rows(q.top)
    title = f"Pre-training {q.model.name} on {q.tokens} tokens, {found.whole:,} sequences of {found.s:,} a step"
    inputs = {"model": q.model.name, "tokens": number(q.tokens, "--tokens", "tokens"), "gpu": q.gpu,
              "gpus": number(q.gpus, "--gpus", "gpus"), "days": q.days, "usd": q.usd}  # fmt: skip
    notes = [
        f"recipe {RECIPE}: ZeRO stage 1 is its distributed optimizer, 2 and 3 shard gradients and weights too",
        "TP tensor parallel, inside a node (TP4s: sequence parallel too), whose collectives stand alone: two published "
        "runs that overlap them (Megatron-Bridge 25.11, FP8) are 3% slower even so; CP GPUs "
        f"that share a sequence, {LEAST_TOKENS:,} tokens each or more; EP GPUs that share the experts; PP pipeline "
        "stages, 1F1B (PP4x5: 5 virtual stages a GPU, interleaved); DP data parallel; b sequences a micro-batch; ckpt "
        "every layer is run again in the backward pass",
        "what surely fits is looked for, with the most fragmentation measured",
        "prices are the median of the preset's dated quotes",
    ]
    notes += [found.stopped] if found.stopped else []
    tried = LayoutsTried(found.tried, found.fit)
    said, limits = (*notes, *q.model.notes), run_limits(q.days, q.usd)
    ended = rows or found.stopped
    other = None if ended else remedy(q, found.why, found.counts, MOST_GPUS, limits, lambda x: Search(x).rows(1))
    return report("train", title, inputs, rows, limits, q.top, found.why, said, tried, found.none, STYLE, other)


class Search:
    """Every layout of a question: those that fit, and of these the rows that are shown, as ``train`` answers them."""

    def __init__(self, q: PreTrain) -> None:
        self.q = q
        self.why = Reasons(cards(q.gpu))
        self.s = int(size_option(None, str(q.seq_len), "--seq-len", "seq_len", "length"))
        batch = int(size_option(None, str(q.global_batch), "--global-batch", "global_batch", "length"))
        self.whole = max(1, batch // self.s)  # sequences a step
        self.layers = int(value_of(q.model.architecture.num_layers))
        blocks = (layer.mlp for layer in q.model.architecture.layers)
        self.experts = gcd(*(int(value_of(x.num)) for x in blocks if isinstance(x, MoE)))  # 0 where there are none
        self.base: dict[str, Any] = {"tokens": q.tokens, "seq_len": self.s, "recipe": RECIPE}
        self.pieces = Pieces(q.model, self.base)
        self.cards: list[str] = []
        for gpu in self.why.names:
            try:
                dense_peak(load_gpu(gpu), "bf16")
                self.cards.append(gpu)
            except InputError as error:
                self.why.refuses(gpu, error)
        self.counts = counts(q.gpus)
        self.tried = self.fit = 0
        self.least: dict[str, int] = {}  # bytes of the layout that lacks least, by card
        self.answers: dict[int, TrainedWay | None] = {}
        self.stopped = ""

    def shapes(self) -> Iterator[Shape]:
        """Every way to divide the GPUs and the batch."""
        for n in self.counts:
            for t in TENSOR:
                for p in (p for p in range(1, min(MOST_STAGES, self.layers) + 1) if n % (t * p) == 0):
                    for c, e in self.shared(n // (t * p)):
                        data = n // (t * p * c)
                        for b in (b for b in MICRO if self.whole % (data * b) == 0):
                            m = self.whole // (data * b)
                            for v, again in product(self.virtual(p, m), ("none", "full")):
                                for sequence in (False, True)[: 2 if t > 1 and self.s // c % t == 0 else 1]:
                                    yield Shape(n, t, sequence, c, e, p, v, b, again, m)

    def shared(self, shards: int) -> Iterator[tuple[int, int]]:
        """(GPUs that share a sequence, GPUs that share the experts) of those that hold the same part of the model."""
        for c in (c for c in POWERS if shards % c == 0 and self.s % c == 0 and (c == 1 or self.s // c >= LEAST_TOKENS)):
            yield from ((c, e) for e in POWERS if e == 1 or (self.experts and shards % e == self.experts % e == 0))

    def virtual(self, p: int, m: int) -> list[int]:
        """Groups of layers that a GPU can hold: layers divide, with embedding and head as two more or without."""
        more = range(2, self.layers // p + 1 if p > 1 and m % p == 0 else 0)
        return [1, *(v for v in more if self.layers % (p * v) == 0 or (self.layers + 2) % (p * v) == 0)]

    @cached_property
    def fitting(self) -> list[Fitting]:
        """Every layout that fits, with the least that its step takes. Ctrl-C ends it; what was found stands."""
        room = [(gpu, self.room(gpu)) for gpu in self.cards]
        shapes = list(self.shapes())
        out: list[Fitting] = []

        def look(shape: Shape) -> None:
            stages = STAGES if shape.gpus > 1 else (0,)
            out.extend(self.tested(shape, stages, room))
            self.tried += len(stages) * len(room)

        self.stopped = watched(shapes, "planning", look)
        self.fit = len(out)
        return out

    def room(self, gpu: str) -> int:
        """Bytes that tensors may take on a card at the most for the step to fit surely."""
        card = find_card(gpu)
        have = card.bytes or 0
        return bisect_right(range(have), have, key=lambda n: int(need(n, card, "training").high)) - 1

    def tested(self, shape: Shape, stages: tuple[int, ...], room: Sequence[tuple[str, int]]) -> Iterator[Fitting]:
        """The ways of a shape that fit, with their seconds; what others lack is remembered."""
        place = self.tried - 1
        try:
            needs = self.pieces.needs(shape, stages) if shape.gpus > 1 else [0]
        except InputError as error:
            for gpu, _ in room:
                self.why.refuses(gpu, error)
            return
        for stage, held in zip(stages, needs, strict=True):
            for gpu, most in room:
                place += 1
                found = Fitting(place, shape, stage, gpu, 0.0)
                if shape.gpus == 1:  # no share of anything: a step of its own, simulated
                    if self.row(found) is not None:
                        yield found
                elif held > most:
                    self.lacks(found, held)
                else:
                    try:
                        yield found._replace(seconds=self.pieces.seconds(shape, stage, gpu))
                    except InputError as error:
                        self.why.refuses(gpu, error)

    def lacks(self, x: Fitting, held: int) -> None:
        """Remember a layout whose tensors take ``held`` bytes if they are fewer than of any before it on its card."""
        if held < self.least.get(x.gpu, inf):
            self.least[x.gpu], card = held, find_card(x.gpu)
            missing = int(need(held, card, "training").high) - (card.bytes or 0)
            where = f"{x.shape.gpus:,} x {x.gpu}, {x.shape.words} ZeRO{x.stage}"
            self.why.lacks(x.gpu, Shortfall(missing, 0.0, where))

    def rows(self, top: int) -> list[TrainedWay]:
        """The rows that can be among the first ``top`` or say by how much a limit is missed; no other is asked.

        Steps on the same cards differ in time as in money. Of each number of cards the fastest is found first, then
        the cheapest of all, in the order of the least that they can cost. Ctrl-C ends it; what was found stands.
        """
        groups: dict[tuple[str, int], list[Fitting]] = {}
        for x in sorted(self.fitting, key=lambda x: x.seconds):
            groups.setdefault((x.gpu, x.shape.gpus), []).append(x)
        rest: list[tuple[float, float, Fitting]] = []

        def ask_fastest(group: list[Fitting]) -> None:
            row = self.fastest(group)
            if row is not None:
                hours = row.hours / row.step_seconds * JUST_BELOW
                rest.extend((x.seconds * hours * row.cost / row.hours, x.seconds * hours, x) for x in group)

        self.stopped = watched(list(groups.values()), "the fastest", ask_fastest) or self.stopped
        try:
            self.cheapest(sorted(rest, key=lambda x: x[:2]), top)
        except KeyboardInterrupt:
            self.stopped = self.stopped or "stopped by Ctrl-C: a cheaper row may be missing"
        return [row for _, row in sorted(self.answers.items()) if row is not None]

    def fastest(self, group: Sequence[Fitting]) -> TrainedWay | None:
        """The fastest of a group, which stands in the order of the least seconds."""
        best: TrainedWay | None = None
        for x in group:
            if best is not None and x.seconds > best.step_seconds:
                break
            row = self.row(x)
            best = row if best is None or (row is not None and row.hours < best.hours) else best
        return best

    def cheapest(self, rest: Sequence[tuple[float, float, Fitting]], top: int) -> None:
        """Ask for the ``top`` cheapest within the limits; ``rest``: (least cost, least hours, layout), in order."""
        days, usd = (inf if x is None else x for x in (self.q.days, self.q.usd))
        kept = sorted((r.cost, r.hours) for r in self.answers.values() if r and r.hours / 24 <= days and r.cost <= usd)
        for cost, hours, x in rest:
            if len(kept) >= top and (cost, hours) > kept[top - 1]:
                break
            if hours / 24 > days or cost > usd or x.place in self.answers:
                continue
            row = self.row(x)
            if row is not None and row.hours / 24 <= days and row.cost <= usd:
                insort(kept, (row.cost, row.hours))

    def row(self, x: Fitting) -> TrainedWay | None:
        """The row of a layout, as ``train`` answers it; None where it does not surely fit or is refused."""
        if x.place not in self.answers:
            self.answers[x.place] = self.asked(x)
        return self.answers[x.place]

    def asked(self, x: Fitting) -> TrainedWay | None:
        options = {**self.base, "gpu": x.gpu, **x.shape.options(), "stage": x.stage}
        try:
            r = numbers_of(timed, ask(Train, self.q.model, options))
        except LlmcalcError as error:
            self.why.refuses(x.gpu, error)
            return None
        if r["fits"] != YES:
            return None
        line = command_line(self.q.model, options.items())
        words = f"{x.shape.words} ZeRO{x.stage}"
        return TrainedWay(line, words, x.gpu, x.shape.gpus, str(r["fits"]), int(r["need_bytes"]),
                          float(r["hours"]), r.get("usd"), float(r["tokens_per_second"]), float(r["step_seconds"]),
                          float(r["mfu"]), r.get("energy_kwh"))  # fmt: skip

    @property
    def none(self) -> str:
        """What is said where no layout divides."""
        return (
            f"Nothing divides: no layout of {', '.join(f'{n:,}' for n in self.counts)} GPUs shares the "
            f"{self.whole:,} sequences of a step evenly (--global-batch {self.q.global_batch}, --seq-len "
            f"{self.q.seq_len})."
        )
