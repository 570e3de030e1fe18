"""Which card to rent for a fine-tune: every card, count, method and checkpointing that fits, with hours and dollars."""

from __future__ import annotations

from typing import Any

from estimator.card import Card, find_card
from estimator.commands.memory.plan import plan, simulate
from estimator.commands.memory.question import Memory
from estimator.commands.plan.question import Tune
from estimator.commands.plan.search import (
    LayoutsTried,
    Way,
    cards,
    command_line,
    counts,
    report,
    run_limits,
    watched,
    within,
)
from estimator.commands.train.question import Train
from estimator.commands.train.report import answer as timed
from estimator.errors import InputError
from estimator.fit import NO, YES, fit_of
from estimator.names import read
from estimator.peft import find
from estimator.presets import load_gpu
from estimator.questions import ask
from estimator.report import Report
from estimator.trace import value_of
from estimator.units import parse_size

BATCHES = (16, 8, 4, 2, 1)  # sequences a GPU and pass, the largest that fits is taken
SHARDED = 3  # FSDP2 for full training on several GPUs; adapters are copied (DDP)


def tune(q: Tune) -> Report:
    """The report of a question."""
    if q.model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to plan with: give a preset or a config.json")
    whole = parse_size(str(q.global_batch), "--global-batch")
    methods = [read("method", m) for m in str(q.method).split(",") if m.strip()]
    for method in methods:
        find(method)
    wanted = [
        (gpu, n, method, checkpointing)
        for gpu in cards(q.gpu) for n in counts(q.gpus) for method in methods for checkpointing in ("none", "full")
    ]  # fmt: skip

    def peak(method: str, checkpointing: str, b: int, n: int, gpu: str) -> int | None:
        options = {**_options(q, method), "batch_size": b, "checkpointing": checkpointing}
        options["accumulation"] = max(1, whole // (b * n))
        options |= {"mode": "training", "gpu": gpu}
        if n > 1:
            options |= {"gpus": n, "stage": _stage(method)}
        try:
            return int(value_of(simulate(plan(ask(Memory, q.model, options | {"seq_len": q.seq_len}))).worst.peak))
        except InputError:
            return None

    rows = []
    for gpu, n, method, checkpointing in watched(wanted, "planning"):
        if load_gpu(gpu).peak_flops("bf16") is None:
            continue
        card = find_card(gpu)
        fitting = (b for b in BATCHES if b * n <= whole and _fits(peak(method, checkpointing, b, n, gpu), card))
        largest = next(fitting, None)
        found = None if largest is None else _row(q, gpu, n, method, checkpointing, largest, whole)
        rows += [] if found is None else [found]
    best: dict[tuple[str, int, str], Way] = {}
    for row in rows:  # of two ways on the same cards the faster
        key = (row.gpu, row.gpus, row.layout.split(",")[0])
        if key not in best or row.hours < best[key].hours:
            best[key] = row
    kept, said = within(list(best.values()), run_limits(q.days, q.usd))
    title = f"Fine-tuning {q.model.name} on {q.examples} examples of {q.seq_len} tokens"
    inputs = {"model": q.model.name, "examples": q.examples, "seq_len": q.seq_len, "gpu": q.gpu, "gpus": q.gpus,
              "method": q.method, "days": q.days, "usd": q.usd}  # fmt: skip
    notes = [
        f"--global-batch {whole}: sequences an optimizer step; gradients accumulate to it",
        "full training on several GPUs is FSDP2 (stage 3), adapters are copied to each (DDP)",
        "prices are the median of the preset's dated quotes: llmcalc gpus NAME",
    ]
    tried = LayoutsTried(len(wanted), len(best))
    return report("tune", title, inputs, kept, q.top, said, (*notes, *q.model.notes), tried)


def _stage(method: str) -> int:
    return SHARDED if method == "full" else 0


def _options(q: Tune, method: str) -> dict[str, Any]:
    return {} if method == "full" else {"method": method, "rank": q.rank, "targets": "all-linear"}


def _fits(peak: int | None, card: Card) -> bool:
    if peak is None:
        return False
    fit = fit_of(peak, card, "training")
    return fit is not None and fit.answer == YES


def _row(q: Tune, gpu: str, n: int, method: str, checkpointing: str, b: int, whole: int) -> Way | None:
    """The row of one way, as ``train`` answers it; None where it refuses."""
    options = {
        **_options(q, method), "batch_size": b, "accumulation": max(1, whole // (b * n)), "seq_len": q.seq_len,
        "checkpointing": checkpointing, "examples": q.examples, "epochs": q.epochs, "gpu": gpu, "gpus": n,
    }  # fmt: skip
    if n > 1:
        options["stage"] = _stage(method)
    try:
        made = timed(ask(Train, q.model, options))
    except InputError:
        return None
    r = made.results()
    if r["fits"] in (NO, None):
        return None
    layout = f"{method}, {b} x {options['accumulation']} sequences a GPU" + (
        ", checkpointed" if checkpointing == "full" else ""
    )
    line = command_line(q.model, options.items())
    return Way(line, layout, gpu, n, str(r["fits"]), int(r["need_bytes"]), float(r["hours"]), r.get("usd"),
               float(r["tokens_per_second"]))  # fmt: skip
