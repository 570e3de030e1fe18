"""Layouts of a pre-training run: how many GPUs share a layer, a stack, a batch; what fits, how long, how much."""

from __future__ import annotations

from typing import Any

from estimator.commands.plan.question import PreTrain
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
from estimator.errors import InputError, LlmcalcError
from estimator.fit import NO
from estimator.presets import load_gpu
from estimator.questions import ask
from estimator.report import Report
from estimator.trace import value_of
from estimator.units import parse_size

TENSOR = (1, 2, 4, 8)  # inside a node
PIPELINE = (1, 2, 4, 8, 16)
MICRO = (1, 2, 4)
RECIPE, STAGE = "megatron", 1  # Megatron-LM's distributed optimizer


def pretrain(q: PreTrain) -> Report:
    """The report of a question."""
    if q.model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to plan with: give a preset or a config.json")
    s = parse_size(str(q.seq_len), "--seq-len", "length")
    whole = max(1, parse_size(str(q.global_batch), "--global-batch", "length") // s)  # sequences a step
    layers = int(value_of(q.model.architecture.num_layers))
    wanted = [
        (gpu, n, t, p, b, c)
        for gpu in cards(q.gpu) for n in counts(q.gpus) for t in TENSOR for p in PIPELINE
        for b in MICRO for c in ("none", "full")
        if n % (t * p) == 0 and p <= layers and whole % (n // (t * p) * b) == 0
    ]  # fmt: skip
    rows = []
    for way in watched(wanted, "planning"):
        found = _row(q, s, whole, *way)
        rows += [] if found is None else [found]
    kept, said = within(rows, run_limits(q.days, q.usd))
    title = f"Pre-training {q.model.name} on {q.tokens} tokens, {whole:,} sequences of {s:,} a step"
    inputs = {"model": q.model.name, "tokens": q.tokens, "gpu": q.gpu, "gpus": q.gpus, "days": q.days, "usd": q.usd}
    notes = [
        f"recipe {RECIPE}, ZeRO stage {STAGE} (its distributed optimizer), 1F1B pipeline",
        "tensor parallel inside a node; prices are the median of the preset's dated quotes",
    ]
    tried = LayoutsTried(len(wanted), len(rows))
    return report("train", title, inputs, kept, q.top, said, (*notes, *q.model.notes), tried)


def _row(q: PreTrain, s: int, whole: int, gpu: str, n: int, t: int, p: int, b: int, c: str) -> Way | None:
    """The row of one layout, as ``train`` answers it; None where it does not fit or is refused."""
    if load_gpu(gpu).peak_flops("bf16") is None:
        return None
    options: dict[str, Any] = {
        "tokens": q.tokens, "seq_len": s, "batch_size": b, "accumulation": whole // (n // (t * p) * b),
        "gpu": gpu, "gpus": n, "tensor_parallel": t, "pipeline_parallel": p, "stage": STAGE, "recipe": RECIPE,
        "checkpointing": c,
    }  # fmt: skip
    try:
        r = timed(ask(Train, q.model, options)).results()
    except LlmcalcError:
        return None
    if r["fits"] in (NO, None):
        return None
    again = ", checkpointed" if c == "full" else ""
    layout = f"tensor {t}, pipeline {p}, data {n // (t * p)}, micro-batch {b}{again}"
    line = command_line(q.model, options.items())
    return Way(line, layout, gpu, n, str(r["fits"]), int(r["need_bytes"]), float(r["hours"]), r.get("usd"),
               float(r["tokens_per_second"]))  # fmt: skip
