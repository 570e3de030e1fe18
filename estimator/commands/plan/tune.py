"""Which card to rent for a fine-tune: every card, count, method and checkpointing that fits, with hours and dollars."""

from __future__ import annotations

from functools import cache
from typing import Any

from estimator.card import NO_BITSANDBYTES, Card, find_card
from estimator.commands.memory.needed import needed
from estimator.commands.memory.plan import MemoryPlan, plan
from estimator.commands.memory.question import Memory
from estimator.commands.plan.question import Tune
from estimator.commands.plan.remedy import remedy
from estimator.commands.plan.search import (
    LayoutsTried,
    Reasons,
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
from estimator.errors import InputError
from estimator.fit import NO, YES, fit_of
from estimator.names import read
from estimator.peft import find
from estimator.presets import load_gpu
from estimator.questions import ask
from estimator.records import NamedTuple
from estimator.report import Report, numbers_of
from estimator.roofline import dense_peak, half_of
from estimator.sizes import size_option

BATCHES = (16, 8, 4, 2, 1)  # sequences a GPU and pass, the largest that fits is taken
SHARDED = 3  # FSDP2: for full training on several GPUs, and for an adapter whose base one GPU does not hold
MOST = 64  # GPUs that are looked at where nothing fits


def tune(q: Tune) -> Report:
    """The report of a question."""
    if q.model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to plan with: give a preset or a config.json")
    found = _search(q)
    limits, most = run_limits(q.days, q.usd), min(MOST, found.whole)
    ended = found.rows or found.stopped
    other = None if ended else remedy(q, found.why, counts(q.gpus), most, limits, lambda x: _search(x).rows)
    title = f"Fine-tuning {q.model.name} on {q.examples} examples of {q.seq_len} tokens"
    inputs = {"model": q.model.name, "examples": number(q.examples, "--examples", "examples"),
              "seq_len": number(q.seq_len, "--seq-len", "seq_len", "length"), "gpu": q.gpu,
              "gpus": number(q.gpus, "--gpus", "gpus"), "method": q.method, "days": q.days, "usd": q.usd}  # fmt: skip
    notes = [
        f"--global-batch {found.whole}: sequences an optimizer step; gradients accumulate to it",
        "full training on several GPUs is FSDP2 (stage 3); adapters are copied to each (DDP), or sharded where no copy "
        "fits",
        "products in bf16, in fp16 on cards without it",
        "prices are the median of the preset's dated quotes: llmcalc gpus NAME",
        *([found.stopped] if found.stopped else []),
        *q.model.notes,
    ]
    tried = LayoutsTried(found.tried, len(found.rows))
    none = f"Nothing divides: --global-batch {found.whole} is less than a sequence a GPU."
    return report("tune", title, inputs, found.rows, limits, q.top, found.why, notes, tried, none, other=other)


class Tuned(NamedTuple):
    """A search: its rows, why cards have none, layouts tried, sequences a step, and whether it was stopped."""

    rows: list[Way]
    why: Reasons
    tried: int
    whole: int
    stopped: str


def _search(q: Tune) -> Tuned:
    """Every way that fits, the faster of two on the same cards."""
    whole = int(size_option(None, str(q.global_batch), "--global-batch", "global_batch"))
    methods = [read("method", m) for m in str(q.method).split(",") if m.strip()]
    for method in methods:
        find(method)
    wanted = [
        (gpu, n, method, checkpointing)
        for gpu in cards(q.gpu) for n in counts(q.gpus) for method in methods for checkpointing in ("none", "full")
    ]  # fmt: skip

    @cache
    def step(method: str, checkpointing: str, b: int, n: int, stage: int) -> MemoryPlan:
        options = {**_options(q, method), "batch_size": b, "checkpointing": checkpointing}
        options["accumulation"] = max(1, whole // (b * n))
        if n > 1:
            options |= {"gpus": n, "stage": stage}
        return plan(ask(Memory, q.model, options | {"mode": "training", "seq_len": q.seq_len}))

    def stages(method: str, n: int, card: Card) -> tuple[int, ...]:
        """How the step is spread: a model that trains is sharded; so is an adapter's base where a copy fits by none."""
        if n == 1 or method == "full":
            return (SHARDED if n > 1 else 0,)
        copies = (step(m, "full", 1, n, 0) for m in methods if m != "full")
        fits = (fit_of(needed(copy, card.kernels), card, "training") for copy in copies)
        return (0,) if any(fit is None or fit.answer == YES for fit in fits) else (0, SHARDED)

    why = Reasons(cards(q.gpu))
    rows: list[Way] = []

    def look(way: tuple[str, int, str, str]) -> None:
        gpu, n, method, checkpointing = way
        card = find_card(gpu)
        where = f"{n:,} x {gpu}, {method}" + (", checkpointed" if checkpointing == "full" else "")
        try:
            if method == "qlora" and card.vendor in NO_BITSANDBYTES:
                raise InputError(f"{gpu}: bitsandbytes, which keeps QLoRA's base, does not run on it")
            dense_peak(load_gpu(gpu), half_of(load_gpu(gpu)))
            for stage, b in ((stage, b) for stage in stages(method, n, card) for b in BATCHES if b * n <= whole):
                fit = fit_of(needed(step(method, checkpointing, b, n, stage), card.kernels), card, "training")
                if fit is not None and fit.answer == YES:
                    rows.extend(_row(q, gpu, n, method, checkpointing, b, whole, stage))
                    return
                if fit is not None:  # what surely fits is looked for
                    why.lacks(gpu, Shortfall(int(fit.need.high) - fit.have, 0.0, f"{where}, micro-batch {b}"))
        except InputError as error:
            why.refuses(gpu, error)

    stopped = watched(wanted, "planning", look)
    best: dict[tuple[str, int, str], Way] = {}
    for row in rows:  # of two ways on the same cards the faster
        key = (row.gpu, row.gpus, row.layout.split(",")[0])
        if key not in best or row.hours < best[key].hours:
            best[key] = row
    return Tuned(list(best.values()), why, len(wanted), whole, stopped)


def _options(q: Tune, method: str) -> dict[str, Any]:
    return {} if method == "full" else {"method": method, "rank": q.rank, "targets": "all-linear"}


def _row(q: Tune, gpu: str, n: int, method: str, checkpointing: str, b: int, whole: int, stage: int) -> list[Way]:
    """The row of one way, as ``train`` answers it; none where it does not fit. InputError where it refuses."""
    options = {
        **_options(q, method), "batch_size": b, "accumulation": max(1, whole // (b * n)), "seq_len": q.seq_len,
        "checkpointing": checkpointing, "examples": q.examples, "epochs": q.epochs, "gpu": gpu, "gpus": n,
    }  # fmt: skip
    if n > 1:
        options["stage"] = stage
    half = half_of(load_gpu(gpu))
    options |= {} if half == "bf16" else {"dtype": half}
    r = numbers_of(timed, ask(Train, q.model, options))
    if r["fits"] in (NO, None):
        return []
    sharded = ", sharded" if stage and method != "full" else ""
    layout = f"{method}{sharded}, {b} x {options['accumulation']} sequences a GPU" + (
        ", checkpointed" if checkpointing == "full" else ""
    )
    line = command_line(q.model, options.items())
    return [Way(line, layout, gpu, n, str(r["fits"]), int(r["need_bytes"]), float(r["hours"]), r.get("usd"),
                float(r["tokens_per_second"]))]  # fmt: skip
