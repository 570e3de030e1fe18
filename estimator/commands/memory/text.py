"""What the memory report says in words: buffers at the peak, assumptions, and changes that would make a run fit."""

from __future__ import annotations

from typing import Any

from estimator.card import COVERED, MIB, SPREAD, Card
from estimator.commands.memory.plan import MemoryPlan
from estimator.commands.memory.sharding import DEEPSPEED, sharding_notes, stage_name
from estimator.families.base import Attention, MoE
from estimator.fit import Fit
from estimator.moments import Moment, Outcome
from estimator.parallel.offload import Host
from estimator.peft.base import TRAINED
from estimator.report import Node
from estimator.stack.kernels import HOPPER_WORKSPACE
from estimator.trace import value_of
from estimator.units import BYTES

CACHE = "KV cache"  # the part that makes it (estimator.stack.attention)
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
    if p.load.tensor != 1:
        how += f", each layer on {show(p.load.tensor)} GPUs"
    if p.load.experts != 1:
        how += f", experts on {show(p.load.experts)} GPUs"
    if p.load.context != 1:
        how += f", a sequence over {show(p.load.context)} GPUs"
    if p.load.pipe is not None:
        how += f", {p.load.pipe.stages} pipeline stages"
    if p.load.gpus != 1:
        how += f", on each of {show(gpus_of(p))} GPUs, {stage_name(p.load)}"
    return f"Memory of {what}, {p.model.name}: {show(p.load.b)} x {show(p.load.s)} tokens, {how}"


def inputs_of(p: MemoryPlan) -> dict[str, Any]:
    """The question as it was understood."""
    a = p.load
    return {
        "model": p.model.name, "mode": p.mode, "batch_size": a.b, "seq_len": a.s, "new_tokens": a.new,
        "recipe": p.recipe.name, "optimizer": a.optimizer if p.mode == "training" else None,
        "attention": "sdpa" if a.fused else "eager", "checkpointing": a.checkpointing,
        "quantization": p.quantization, "method": p.method, "logits": a.logits,
        "gpus": p.grid.job.degrees.gpus if p.grid else gpus_of(p),
        "stage": p.grid.stages[0] if p.grid else a.stage,
        "gpu": p.question.gpu,
    }  # fmt: skip


def gpus_of(p: MemoryPlan) -> Any:
    """GPUs of a simulated step."""
    stages = 1 if p.load.pipe is None else p.load.pipe.stages
    return p.load.gpus * p.load.replicas * p.load.tensor * p.load.experts * stages


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


WIDEST = 6  # buffers of the peak that the brief answer names


def brief(p: MemoryPlan, worst: Moment, buffers: tuple[Node, ...], fit: Fit | None, host: Host | None) -> Node:
    """What stands, the peak and its widest ``buffers``, what the card must hold: the rows that people ask first."""
    rows = [Node("", "Weights", p.weights_bytes, BYTES)]
    if p.mode == "training":
        rows.append(Node("", "Gradients", p.gradients_bytes, BYTES))
        rows.append(Node("", f"Optimizer states ({p.load.optimizer})", p.optimizer_bytes, BYTES))
    elif p.kv_cache_bytes:
        late = "once the prompt has passed" if whole_prompt(p, worst) else ""
        rows.append(Node("", "KV cache", p.kv_cache_bytes, BYTES, note=late))
    found = [r for r in buffers if not r.label.endswith("smaller buffers")]
    rest = sum(value_of(v) for v in worst.buffers().values()) - sum(value_of(r.value) for r in found[:WIDEST])
    more = [Node("", "everything else", rest, BYTES)] if rest else []
    rows.append(Node.sum("", f"Peak: {worst.label.lower()}", [*found[:WIDEST], *more]))
    if fit is not None:
        rows.append(Node("", f"Needed on {fit.card}", fit.need.best, BYTES, note="with context and fragmentation"))
    if host is not None:
        rows.append(Node("", "On the host of a node", host.node, BYTES))
    return Node.group("", rows)


def assumptions(p: MemoryPlan, outcome: Outcome, card: Card) -> tuple[str, ...]:
    """Everything that was assumed."""
    low, best, high = SPREAD[p.mode]
    said = [*p.said, *unmet(p, outcome)]
    if p.mode == "training" and p.grid is None and p.recipe.kind in ("simulated", DEEPSPEED):
        said += [
            f"recipe {p.recipe.name}: {p.recipe.title}"
            + (f"; {p.recipe.note}" if p.recipe.note and p.load.stage < 2 else ""),
            *sharding_notes(p.load),
            "the steady state: states exist"
            + ("" if p.load.kept_gradients else ", gradients are freed between steps (set_to_none=True)")
            + ("; the config's dropout counts" if any(p.load.drops) else ", dropout 0"),
            workspace(p),
        ]
    elif p.mode == "training":
        said.append(f"recipe {p.recipe.name}: {p.recipe.title}; {p.recipe.note}")
    else:
        said.append("transformers' generate() with a dynamic cache" + generated(p))
        if whole_prompt(p, outcome.worst):
            said.append(
                "the row KV cache counts of a layer with a window what it attends to; while the prompt passes, "
                "transformers' cache holds all of it, of which the window is a view, and the moments count that"
            )
        said.append(
            workspace(p)
            + ("; a process that has never run a backward pass keeps one" if p.load.threads > 1 else "")
        )
    if p.question.allocator != "simulated":
        said.append(
            f"reserved: allocated times {float(low):.3f}, {float(best):.3f}, {float(high):.3f} "
            f"(5th, 50th, 95th percentile measured; {COVERED[p.mode]} of 100 runs not fitted on lay inside)"
        )
    return (*said, *card.notes, *p.model.notes)


def whole_prompt(p: MemoryPlan, m: Moment) -> bool:
    """Whether the cache holds more at a moment than what its layers attend to: prompts longer than their windows."""
    if not any(isinstance(x.mixer, Attention) and x.mixer.window for x in p.arch.layers):
        return False
    held = sum(value_of(size) for (where, _), size in m.buffers().items() if where == CACHE)
    return bool(held > value_of(p.kv_cache_bytes))


def generated(p: MemoryPlan) -> str:
    """What generate() does otherwise than a loop of forward passes."""
    if p.arch.prompts_encoder:
        return "; the prompt is the encoder's, and the decoder begins with one token"
    if p.load.copies_experts and any(isinstance(x.mlp, MoE) for x in p.arch.layers):
        return "; it decodes with a copy of each chosen expert's weights, for each token (batched_mm)"
    return ""


COUNTS = {1: "one thread", 2: "two threads"}


def workspace(p: MemoryPlan) -> str:
    """The workspaces of cuBLAS in words."""
    of = p.load.card.workspace
    if not of:
        return "no workspace of cuBLAS, which PyTorch has on NVIDIA and AMD alone"
    size = "32 MiB (measured on one H100)" if of == HOPPER_WORKSPACE else f"{of / MIB:g} MiB (before Hopper)"
    return f"cuBLAS keeps {size} for each of {COUNTS[p.load.threads]}"


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
