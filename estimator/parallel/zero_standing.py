"""What stands on a GPU and on its host under DeepSpeed, beside what a step takes (:mod:`.zero_engine`).

Sources (0.19.8): deepspeed/runtime/zero/stage_1_and_2.py, stage3.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from estimator.families.base import Architecture
from estimator.ops import ceil_div
from estimator.optimizers import Trained
from estimator.parallel.coordinator import Settings, settings
from estimator.parallel.order import in_order
from estimator.stack.blocks import block_bytes, small_block
from estimator.stack.packed import is_packed, packed_bytes
from estimator.stack.tape import F32, HALF
from estimator.trace import value_of

SUB_GROUP = 1_000_000_000  # sub_group_size: elements of a GPU's part that are stepped at once (stage 3)
KEPT = ("model", "weights that are never partitioned")
MASTER_AND_MOMENTS = 3  # fp32 numbers a trained weight


def prepare(arch: Architecture, load: Any, trained: Sequence[Trained], base: dict[tuple[str, str], Any],
            rules: Settings, own: Own) -> None:  # fmt: skip
    """Change what stands on rank 0 before a step."""
    n = sum(t.times * t.n for t in trained)
    part = ceil_div(n, load.gpus)
    for key in (("optimizer", "states"), ("adapters", "weights"), ("gradients", "standing")):
        base.pop(key, None)
    if load.stage == 3:
        persistent, everything = _partition(arch, load, rules)
        base["model", "weights"] = HALF * everything if load.host != "all" else 0
        base[KEPT] = HALF * persistent
        base["DeepSpeed", "bucket of gradients"] = block_bytes(HALF * rules.bucket)
        if load.host == "none":
            base["DeepSpeed", "partition of gradients"] = block_bytes(HALF * part)
    else:  # what trains is one flat buffer
        base["model", "weights"] = frozen_bytes(arch, load) + block_bytes(HALF * n)
        if load.host != "none":
            largest = max(int(value_of(t.n)) for t in trained)
            base["DeepSpeed", "buffer of the largest gradient"] = block_bytes(HALF * largest)
    if load.kept_gradients and load.host == "none":
        if load.stage == 2:
            base["DeepSpeed", "gradients of this GPU's part"] = block_bytes(HALF * own.elements)
        elif load.stage == 0:
            base["gradients", "standing"] = sum(t.times * block_bytes(HALF * t.n) for t in trained)
    if load.host == "none":
        held = n if load.stage == 0 else part
        base["optimizer", "fp32 weights"] = block_bytes(F32 * held)
        base["optimizer", "states"] = 2 * block_bytes(F32 * held)


def standing_bytes(arch: Architecture, load: Any, trained: Sequence[Trained], stored: Any) -> tuple[Any, Any, Any]:
    """(weights, gradients, fp32 weights and moments) in bytes of rank 0."""
    n = sum(t.times * t.n for t in trained)
    part = n if load.stage == 0 else ceil_div(n, load.gpus)
    weights = stored
    if load.stage == 3:
        small, everything = _partition(arch, load, settings(load.buckets, int(value_of(arch.hidden))))
        weights = HALF * (small + (everything if load.host != "all" else 0))
    away = load.host != "none"
    return weights, 0 if away else HALF * part, 0 if away else MASTER_AND_MOMENTS * F32 * part


def host_parts(arch: Architecture, load: Any, trained: Any) -> list[tuple[str, Any]]:
    """What CPUAdam steps of one process: ``trained`` elements' share, and the shard of 16-bit weights; bytes."""
    part = ceil_div(trained, load.gpus)
    out = [
        ("fp32 master weights", F32 * part), ("moments", 2 * F32 * part), ("fp32 gradients", F32 * part)
    ]  # fmt: skip
    if load.host == "all":
        _, everything = _partition(arch, load, settings(load.buckets, int(value_of(arch.hidden))))
        out.insert(0, ("16-bit weights", HALF * everything))
    return out


class Own(NamedTuple):
    """What is of a rank's part: ``elements`` of the ``tensors`` that touch it, and the ``largest`` piece of one."""

    elements: int = 0
    tensors: int = 0
    largest: int = 0


def own_part(arch: Architecture, load: Any, trained: Sequence[Trained], part: Any) -> Own:
    """What is of the rank's part: rank 0's, or the last one's."""
    at, found, size = 0, Own(), int(value_of(part))
    begin = (int(value_of(load.gpus)) - 1) * size if load.last else 0
    for t in in_order(arch, trained, load.adapter is None):
        n = int(value_of(t.n))
        piece = min(begin + size, at + n) - max(begin, at)
        if piece > 0:
            found = Own(found.elements + n, found.tensors + 1, max(found.largest, piece))
        at += n
    return found


def alike(arch: Architecture, load: Any, trained: Sequence[Trained]) -> bool:
    """Whether a step of stage 2 holds what one of stage 1 does: no gradients stand between micro-batches, and each fits
    a bucket (a larger one that is of another rank's part stands until stage 1's pass is over)."""
    bucket = settings(load.buckets, int(value_of(arch.hidden))).bucket
    return not load.kept_gradients and all(value_of(t.n) <= bucket for t in trained)


def largest_sub_group(arch: Architecture, load: Any, trained: Sequence[Trained]) -> int:
    """Elements of this GPU's part that are stepped at once: whole weights' shares, until there are enough."""
    most, group = 0, 0
    for t in in_order(arch, trained, load.adapter is None):
        group += ceil_div(int(value_of(t.n)), int(value_of(load.gpus)))
        most = max(most, group)
        if group >= SUB_GROUP:
            group = 0
    return most


def frozen_bytes(arch: Architecture, load: Any) -> Any:
    """What the allocator counts for the weights that do not train."""
    if load.adapter is None:
        return 0
    names = {f"{t.module}.{t.name}" if t.module else t.name for t in load.adapter.unfrozen}
    frozen = [w for w in arch.weights() if w.name not in names]
    packed = [w for w in frozen if is_packed(w, load)]
    held = sum(w.times * sum(small_block(x) for x in packed_bytes(w.elements, load.quantization)) for w in packed)
    return held + sum(w.times * block_bytes(w.elements * HALF) for w in frozen if not is_packed(w, load))


def _partition(arch: Architecture, load: Any, rules: Settings) -> tuple[Any, Any]:
    """Elements on one GPU: of the small weights, which stay whole, and of all weights, each cut by itself."""
    given = [(w.elements, w.times) for w in arch.weights()]
    if load.adapter is not None:
        given += [(t.elements // t.times, t.times) for t in load.adapter.tensors]
    small = sum(times * n for n, times in given if value_of(n) <= rules.persist)
    return small, sum(times * ceil_div(n, load.gpus) for n, times in given)
