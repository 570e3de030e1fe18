"""What the memory report says in words: buffers at the peak, assumptions, and changes that would make a run fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.card import MIB, SPREAD, Card
from estimator.estimates.memory_plan import MemoryPlan, simulate
from estimator.fit import NO, fit_of
from estimator.moments import Moment, Outcome, inference, training
from estimator.peft.base import TRAINED
from estimator.report import Cell, Node, Table
from estimator.stack.kernels import HOPPER_WORKSPACE
from estimator.trace import value_of
from estimator.units import BYTES

STAGE_NAMES = ("DDP", "DDP with ZeroRedundancyOptimizer", "FSDP2, weights kept after the forward pass", "FSDP2")
SMALL = 200  # buffers under a 200th of the peak are printed together


def title_of(p: MemoryPlan) -> str:
    """What is answered, in a line."""

    def show(x: Any) -> str:
        return str(x.expr) if p.model.kind == "symbolic" and hasattr(x, "expr") else f"{value_of(x):,}"

    what = "a training step" if p.mode == "training" else "inference"
    how = p.recipe.name if p.mode == "training" else "torch"
    if p.method != "full":
        how += f", {p.method}"
    if p.quantization != "none":
        how += f", {p.quantization}"
    if p.grid is not None:
        how += f", {show(p.grid.job.degrees.gpus)} GPUs, ZeRO stage {p.grid.stages[0]}"
    if p.load.gpus != 1:
        how += f", on each of {show(p.load.gpus)} GPUs, {STAGE_NAMES[p.load.stage]}"
    return f"Memory of {what}, {p.model.name}: {show(p.load.b)} x {show(p.load.s)} tokens, {how}"


def inputs_of(p: MemoryPlan) -> dict[str, Any]:
    """The question as it was understood."""
    a = p.load
    return {
        "model": p.model.name, "mode": p.mode, "batch_size": a.b, "seq_len": a.s, "new_tokens": a.new,
        "recipe": p.recipe.name, "optimizer": a.optimizer if p.mode == "training" else None,
        "attention": "sdpa" if a.fused else "eager", "checkpointing": a.checkpointing,
        "quantization": p.quantization, "method": p.method, "logits": a.logits,
        "gpus": p.grid.job.degrees.gpus if p.grid else a.gpus,
        "stage": p.grid.stages[0] if p.grid else a.stage,
        "gpu": p.question.gpu,
    }  # fmt: skip


def buffer_rows(m: Moment, p: MemoryPlan) -> list[Node]:
    """The buffers alive at a moment, by the part of the model that made them, largest first."""
    rows: list[Node] = []
    parts: dict[str, list[tuple[str, Any]]] = {}
    for (where, what), size in m.buffers().items():
        parts.setdefault(where, []).append((what, size))
    least = value_of(m.peak) // SMALL
    rest: list[Any] = []
    for where, items in parts.items():
        big = [(what, size) for what, size in items if value_of(size) >= least]
        rest += [size for _, size in items if value_of(size) < least]
        rows += [Node("", f"{where}: {what}" if where else what, size, BYTES) for what, size in big]
    rows.sort(key=lambda r: -value_of(r.value))
    if rest:
        rows.append(Node("", f"{len(rest)} smaller buffers", sum(rest), BYTES))
    return rows


def assumptions(p: MemoryPlan, outcome: Outcome, card: Card) -> tuple[str, ...]:
    """Everything that was assumed."""
    low, best, high = SPREAD[p.mode]
    said = [*p.said, *unmet(p, outcome)]
    if p.mode == "training" and p.recipe.kind == "simulated":
        said += [
            f"recipe {p.recipe.name}: {p.recipe.title}"
            + (f"; {p.recipe.note}" if p.recipe.note and p.load.stage < 2 else ""),
            *sharding(p),
            "the steady state: states exist"
            + ("" if p.load.kept_gradients else ", gradients are freed between steps (set_to_none=True)")
            + ("; the config's dropout counts" if any(p.load.drops) else ", dropout 0"),
            f"cuBLAS keeps {workspace(p)} for each of {COUNTS[p.load.threads]}",
        ]
    elif p.mode == "training":
        said.append(f"recipe {p.recipe.name}: {p.recipe.title}; {p.recipe.note}")
    else:
        said.append("transformers' forward pass with a dynamic cache")
        said.append(
            f"cuBLAS keeps {workspace(p)} for each of {COUNTS[p.load.threads]}"
            + ("; a process that has never run a backward pass keeps one" if p.load.threads > 1 else "")
        )
    said.append(
        f"reserved: allocated times {float(low):.3f}, {float(best):.3f}, {float(high):.3f} "
        "(5th, 50th, 95th percentile measured)"
    )
    return (*said, *card.notes, *p.model.notes)


COUNTS = {1: "one thread", 2: "two threads"}


def workspace(p: MemoryPlan) -> str:
    """The workspace of cuBLAS in words."""
    of = p.load.card.workspace
    return "32 MiB" + " (measured on one H100)" if of == HOPPER_WORKSPACE else f"{of / MIB:g} MiB (before Hopper)"


def unmet(p: MemoryPlan, outcome: Outcome) -> list[str]:
    """What an adapter trains beside operations that are not simulated."""
    if not outcome.unmet or p.load.adapter is None:
        return []
    names = sorted({name.split("{i}.")[-1] for name in outcome.unmet})
    lost = sum(t.elements for t in p.load.adapter.tensors if t.module in outcome.unmet and t.state == TRAINED)
    share = 100 * value_of(lost) / max(1, value_of(p.load.adapter.trained))
    return [
        f"the adapter of {', '.join(names)} ({share:.0f}% of what is trained) counts in weights, gradients and states; "
        "the activations that it keeps are not simulated"
    ]


def sharding(p: MemoryPlan) -> list[str]:
    """What data parallelism was assumed to do."""
    if p.load.gpus == 1:
        return []
    if p.load.stage < 2:
        dealt = "; whole tensors' states go to the emptiest rank, largest first, and the fullest is shown"
        dealt = dealt if p.load.stage else ""
        return [f"DDP: gradients and a copy of them in buckets of 25 MiB (gradient_as_bucket_view=False){dealt}"]
    policy = ", MixedPrecisionPolicy(param_dtype=bf16, reduce_dtype=fp32)" if p.load.amp else ""
    after = "False" if p.load.stage == 2 else "True"
    return [
        f"fully_shard on every layer and on the model, reshard_after_forward={after}{policy}; "
        "rank 0 is shown, whose shards are rounded up",
        "the backward pass gathers one layer ahead; a gathered buffer lives until the next layer's copy-out",
    ]


def first_step(moments: Any, p: MemoryPlan) -> Node:
    """The first step of a sharded run: until the optimizer has run once, its states do not exist."""
    states = moments.states
    rows = [
        Node(
            f"first_step.{key}_bytes",
            label,
            moments[f"moments.{key}_bytes"].total(p.traced) - (states if key != "step" else 0),
            BYTES,
        )
        for key, label in (("forward", "Forward and loss"), ("backward", "Backward"), ("step", "Optimizer step"))
    ]
    return Node.max("first_step.peak_bytes", "First step: the states come into being at its end", rows)


PAIRS_SHOWN = 3


def what_fits(p: MemoryPlan, card: Card) -> Table:
    """Single changes, with the peak each leaves and whether it fits; where none does, pairs of them."""
    assert card.bytes is not None
    if p.grid is not None:
        return _other_stages(p, card)
    now = value_of(simulate(p).worst.peak)
    singles = changes(p)
    rows = [_change(name, load, p, card, now) for name, load in singles]
    title, note = "Single changes", ""
    if not any(row[-1] != NO for row in rows):
        pairs = {
            frozenset((first, second)): _change(f"{first} {second}", both, p, card, now)
            for first, load in singles
            for second, both in changes(replace(p, load=load))
            if first.split()[0] != second.split()[0]
        }
        # the least drastic of those that fit; else the two that save most
        best = sorted(pairs.values(), key=lambda row: row[1].value)  # type: ignore[union-attr]
        fitting = [row for row in best if row[-1] != NO][: -PAIRS_SHOWN - 1 : -1]
        rows += fitting or best[:2]
        title = "Single changes, and pairs of them"
        note = "" if fitting else "neither one change nor two make it fit: a larger GPU, or several (--gpus, --stage)"
    return Table(title, ("change", "peak allocated", "saves", "fits"), tuple(rows), note)


def _change(name: str, load: Any, p: MemoryPlan, card: Card, now: Any) -> tuple[str | Cell | None, ...]:
    run = training if p.mode == "training" else inference
    peak = int(value_of(run(p.arch, load).worst.peak))
    return (name, Cell(peak, BYTES), Cell(now - peak, BYTES), _fits(peak, p, card))


def _fits(peak: int, p: MemoryPlan, card: Card) -> str:
    found = fit_of(peak, card, p.mode)
    return NO if found is None else found.answer


def _other_stages(p: MemoryPlan, card: Card) -> Table:
    """Further ZeRO stages of a sharded accounting."""
    from estimator.parallel.job import ranks, worst

    rows: list[tuple[str | Cell | None, ...]] = []
    now = value_of(worst(ranks(p.grid.job, p.grid.stages[0])).total)
    for stage in range(p.grid.stages[0] + 1, 4):
        peak = int(value_of(worst(ranks(p.grid.job, stage)).total))
        rows.append((f"--stage {stage}", Cell(peak, BYTES), Cell(now - peak, BYTES), _fits(peak, p, card)))
    return Table("Single changes", ("change", "peak allocated", "saves", "fits"), tuple(rows))


def changes(p: MemoryPlan) -> list[tuple[str, Any]]:
    """The single changes that are tried."""
    a = p.load
    out: list[tuple[str, Any]] = []
    half = value_of(a.s) // 2
    if p.mode == "training":
        if a.checkpointing != "full":
            out.append(("--checkpointing full", replace(a, checkpointing="full")))
        if not a.fused:
            out.append(("--attention sdpa", replace(a, fused=True)))
        if a.loss == "full":
            out.append(("--loss fused", replace(a, loss="fused")))
        if a.width == 4:
            out.append(("--recipe torch-bf16", replace(a, width=2, amp=False)))
        if a.adapter is None:
            out.append(("--optimizer adamw8bit", replace(a, optimizer="adamw8bit")))
            out += _adapters(p) if a.gpus == 1 else []
            out += [(f"--stage {n}", replace(a, stage=n)) for n in range(a.stage + 1, 4) if a.gpus != 1]
    else:
        out.append(("--quantization nf4-dq", replace(a, quantization="nf4-dq", width=2, stored=None)))
    if value_of(a.b) > 1:
        out.append(("--batch-size 1", replace(a, b=1)))
    if half >= 1:
        out.append((f"--seq-len {half}", replace(a, s=half)))
    return out


def _adapters(p: MemoryPlan) -> list[tuple[str, Any]]:
    from estimator.errors import InputError
    from estimator.peft import find
    from estimator.peft.base import run

    try:
        lora = run(find("lora"), p.arch, p.model.name, {}, "all-linear", {"r": 16})
    except InputError:
        return []
    base = replace(p.load, adapter=lora, width=2, amp=False)
    return [
        ("--method lora --rank 16 --targets all-linear", base),
        ("--method qlora --rank 16 --targets all-linear", replace(base, quantization="nf4-dq")),
    ]
