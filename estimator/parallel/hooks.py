"""Seconds of the host in which the Python of a sharding library runs: hooks of modules, groups, tensors.

Each library calls Python around the model's own operations, and a step that the host bounds is longer by it.
DeepSpeed's stage 3 hooks every module, before and behind it, forward and backward, to fetch and release what it needs;
FSDP2 hooks every group that ``fully_shard`` made; DDP and ZeRO reduce each trained tensor; DeepSpeed's optimizers walk
over all trained tensors. The microseconds are least squares over the measured steps that :data:`MEASURED` names
(benchmarks/hooks.py), at the speed of the slowest of their hosts: a step waits for its slowest rank.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from estimator.alike import add_up
from estimator.families.base import Architecture, Norm
from estimator.parallel.divided import one_rank
from estimator.peft.base import TRAINED, Adapter
from estimator.records import dataclass
from estimator.trace import value_of

MICRO, NANO = 1e-6, 1e-9
DDP, FSDP2, ZERO, ZERO3 = "DDP", "FSDP2", "DeepSpeed", "DeepSpeed ZeRO-3"


@dataclass(frozen=True, slots=True)
class Hooks:
    """Microseconds of the host by what they are spent on; of :func:`units`, how often each happens in a step.

    module    a module that is called, in each pass (forward, recomputed, backward)
    group     a group that fully_shard made, in each pass
    gathered  a tensor in each gathering of its group
    reduced   a trained tensor in each backward pass
    stepped   a trained tensor in each optimizer step
    step      an optimizer step
    """

    module: float = 0.0
    group: float = 0.0
    gathered: float = 0.0
    reduced: float = 0.0
    stepped: float = 0.0
    step: float = 0.0


LIBRARIES = {
    DDP: Hooks(reduced=166),
    FSDP2: Hooks(group=2780, gathered=37),
    ZERO: Hooks(stepped=256, step=3940),
    ZERO3: Hooks(module=497, reduced=266, stepped=250),
}
MEASURED = "89 steps of 0.01 to 8 B parameters on three hosts with two H100 or H200"
# single steps took so many times the best value (87 of 89 lie between low and high); beside the host that the preset's
# launches were measured on, the three as wholes took 0.88, 0.88 and 1.23 times
SLOW, FAST = 1.5, 0.5
# microseconds of DTensor's dispatch for a module that it runs in a pass, beside what the plain module launches: 607,
# 671 and 629 in three steps (Llama 1.2 B plain and with sequence parallelism, a Qwen of 0.6 B) of one host, two H200
DTENSOR = 630
# nanoseconds an element of DeepSpeedCPUAdam on the host, one thread (torchrun sets OMP_NUM_THREADS=1), and of PyTorch's
# fused AdamW there: one step each, of 3.2 and 1.2 B parameters on two H100 (tests/accuracy/sharded_stacks.json.gz)
CPU_ADAM = {ZERO: 2.8, ZERO3: 2.8, FSDP2: 1.0}


def library(kind: str, stage: int) -> str | None:
    """Whose hooks run under a recipe of this kind at this ZeRO stage; None where none was measured."""
    if kind == "deepspeed":
        return ZERO3 if stage == 3 else ZERO
    if kind != "simulated":
        return None
    return FSDP2 if stage >= 2 else DDP


def units(
    arch: Architecture, adapter: Adapter | None, stage: int, checkpointed: bool, micro_batches: int
) -> Hooks:
    """What one step of ``micro_batches`` passes calls."""
    passes = micro_batches * (3 if checkpointed else 2)
    layers = float(value_of(arch.num_layers))
    tensors, trained = _tensors(arch, adapter)
    gatherings = micro_batches * (2 if stage == 3 else 1)
    return Hooks(
        passes * _modules(arch, adapter), passes * (layers + 1), gatherings * tensors, micro_batches * trained,
        trained, 1.0,
    )  # fmt: skip


def dtensor_seconds(arch: Architecture, tensor: Any, sequence: bool, checkpointed: bool, micro_batches: int) -> float:
    """Seconds of the host that DTensor's dispatch takes in a step: matrices that are divided, and with sequence
    parallelism the table and the norms."""
    share = one_rank(arch, tensor, sequence)
    layers = sum(float(value_of(g.times)) * (_cut(g.parts()) + sequence * len(g.norms)) for g in share.layers)
    ends = _cut((*share.embeddings, share.head))
    if sequence:  # the final norm, and the table once more where it is the output matrix
        ends += sum(isinstance(x, Norm) for x in share.final) + (share.head is None)
    return MICRO * DTENSOR * micro_batches * (3 if checkpointed else 2) * (layers + ends)


def _cut(parts: Any) -> int:
    return sum(bool(getattr(x, "across", "")) for x in parts)


def hook_seconds(of: str, found: Hooks) -> float:
    """Seconds of one step."""
    own = LIBRARIES[of]
    return float(MICRO * add_up(float(getattr(own, f.name) * getattr(found, f.name)) for f in fields(Hooks)))


def _modules(arch: Architecture, adapter: Adapter | None) -> float:
    """Modules that a pass calls: those on the paths to weights, an activation a layer, and an adapter's around each
    target (its base layer, its dropout, its matrices)."""
    outside = len(_paths(w for w in arch.weights() if "{" not in w.name))
    inside = sum(float(value_of(g.times)) * (len(_paths(g.weights())) + int(g.mlp is not None)) for g in arch.layers)
    if adapter is None:
        return outside + inside
    added = sum(float(value_of(m.times)) * 2 for m in adapter.targets)
    return outside + inside + added + sum(float(value_of(t.times)) for t in adapter.tensors)


def _paths(weights: Any) -> set[str]:
    """Modules on the way to each weight: from its layer on, or the weight's own."""
    found: set[str] = set()
    for w in weights:
        parts = w.name.split(".")[:-1]
        start = next((i for i, p in enumerate(parts) if "{" in p), len(parts) - 1)
        found |= {".".join(parts[: i + 1]) for i in range(start, len(parts))}
    return found


def _tensors(arch: Architecture, adapter: Adapter | None) -> tuple[float, float]:
    """(tensors of the model and its adapter, those that are trained)."""
    own = float(sum(value_of(w.times) for w in arch.weights()))
    if adapter is None:
        return own, own
    added = [*adapter.tensors]
    trained = [t for t in added if t.state == TRAINED] + [*adapter.unfrozen]
    return own + sum(float(value_of(t.times)) for t in added), sum(float(value_of(t.times)) for t in trained)
