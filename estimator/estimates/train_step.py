"""One optimizer step on one GPU: its times, what bounds it, and how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from estimator.errors import InputError
from estimator.estimates.flops import Pass
from estimator.estimates.train_run import Run, real, share
from estimator.formulas import time
from estimator.steptime import Ceilings, Times, ceilings, dense_peak, ideal_seconds, pass_times
from estimator.trace import value_of
from estimator.work import operations
from estimator.work.folds import Group
from estimator.work.model import Operation
from estimator.work.product import FP32_BYTES

if TYPE_CHECKING:
    from estimator.recipes.base import Recipe
    from estimator.schemas import GpuSpec

RING, RING_ZERO3 = 2, 3  # passes of an all-reduce; gather twice and reduce-scatter once
# bytes of one optimizer step over those of the fused AdamW: passes over a tensor, torch/optim/*.py
# foreach: lerp 3, mul 2, addcmul 3, sqrt 2, div 2, add 2, addcdiv 4, decay 2 = 20 tensors; fused: 7
PASSES = {
    "adamw-fused": 7,
    "adamw": 20,
    "adamw-forloop": 20,
    "sgd": 3,
    "sgd-momentum": 5,
    "lion": 9,
    "adafactor": 12,
    "adamw8bit": 5,
    "muon": 5,
}
ADAMW_PASSES = 7
NF4_BYTES = 0.5625 + 2  # an unpacked weight: 4.5 bits read, 16 written


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step on one GPU: its products, its times, its range and what bounds it."""

    made: Pass
    times: Times
    best: float
    low: float
    high: float
    ideal: float
    communication: float
    spec: GpuSpec
    peak: float
    notes: tuple[str, ...]


def one_step(
    made: Pass,
    recipe: Recipe,
    run: Run,
    gpu: str,
    gpus: int,
    optimizer: str,
    dtype: str,
    quantization: str,
    convention: str,
) -> Step:
    from estimator.presets import load_gpu

    spec = load_gpu(gpu)
    kind = "fp32" if recipe.name == "torch-fp32" else dtype
    c = ceilings(spec, kind)
    width = FP32_BYTES if kind == "fp32" else 2
    ops = operations(made.arch, made.work, made.train)
    moved, notes = _optimizer_bytes(made, recipe, optimizer)
    repeats = int(run.accumulation)
    extra = _unpacking(made, quantization) + _casts(made, recipe)
    once = pass_times(ops, c, width, fp32_adapters=not recipe.amp, stream=FP32_BYTES if recipe.amp else None)
    times = Times(
        once.products * repeats,
        once.adapters * repeats,
        once.attention * repeats,
        (once.elementwise + extra / c.pointwise) * repeats,
        moved / c.copy,
        once.host * repeats,
    )
    ideal = ideal_seconds(ops, c, width) * repeats + moved / c.bandwidth
    comm, comm_notes = _communication(made, recipe, run, spec, gpus)
    hidden = times.device * 2 / 3  # a backward pass is two thirds of a step's products
    best = times.total + max(0.0, comm - hidden)
    low, high = _fastest(ops, c, width, recipe, moved, repeats, times), times.device + times.host + comm
    peak = dense_peak(spec, kind)
    mfu = share(run.mfu, "--mfu")
    basis = [*c.basis, *notes, *comm_notes]
    if mfu is not None:
        flops = float(value_of(Group("", made.list, convention == "causal").model)) * repeats
        best = low = high = time.seconds_at_utilisation(flops, 1, peak, mfu)
        basis = [f"--mfu {100 * mfu:g}% of {spec.id}'s dense {kind} peak in place of the roofline"]
    return Step(made, times, best, min(low, best), max(high, best), min(ideal, best), comm, spec, peak, tuple(basis))


def _fastest(
    ops: list[Operation], c: Ceilings, width: int, recipe: Recipe, moved: float, repeats: int, best: Times
) -> float:
    """The step with every kernel as fast as alone: isolated products, plain copies, no waiting for the host."""
    quick = replace(c, pointwise=c.copy, curve=tuple((x, c.isolated) for x, _ in c.curve))
    return min(best.total, pass_times(ops, quick, width, not recipe.amp).device * repeats + moved / c.bandwidth)


def _optimizer_bytes(made: Pass, recipe: Recipe, optimizer: str) -> tuple[float, list[str]]:
    """Bytes that one optimizer step reads and writes: gradients read, states and weights read and written."""
    trained = _trained(made)
    if optimizer not in PASSES:
        from estimator.optimizers import find_optimizer

        find_optimizer(optimizer)
    passes = PASSES.get(optimizer, ADAMW_PASSES)
    fused = (
        recipe.gradients
        + 2 * recipe.states
        + (2 * recipe.master + recipe.weights if recipe.master else 2 * recipe.weights)
    )
    if made.method not in ("full", "none") and not recipe.master and made.method != "freeze":
        fused = ADAMW_PASSES * FP32_BYTES  # adapters are kept in fp32
    note = [] if optimizer in PASSES else [f"{optimizer}: its step is taken to move what fused AdamW moves"]
    return trained * fused * passes / ADAMW_PASSES, note


def _trained(made: Pass) -> float:
    """Elements that are trained: full, or the adapters' own, or the unfrozen layers'."""
    if made.method in ("full", "none"):
        return float(value_of(sum((w.total for w in made.arch.weights()), start=0)))
    seen = {(q.name, q.layer): q for q in made.list if q.right and q.weight}
    return float(
        sum(
            value_of(q.weight) * value_of(sum(x.times for x in made.list if (x.name, x.layer) == key))
            for key, q in seen.items()
        )
    )


def _unpacking(made: Pass, quantization: str) -> float:
    """Bytes that unpacking quantised weights moves: once a forward, recomputed and backward use of a layer."""
    if quantization == "none":
        return 0.0
    if quantization not in ("nf4", "nf4-dq", "int8"):
        raise InputError(f"--quantization {quantization}: training is timed for none, nf4, nf4-dq and int8")
    uses = (
        float(value_of(q.times * q.weight)) * (1 + int(q.left) + int(q.recomputed))
        for q in made.list
        if q.operator == "linear" and q.part not in ("adapters", "output head")
    )
    return sum(uses) * NF4_BYTES


def _casts(made: Pass, recipe: Recipe) -> float:
    """Autocast: every fp32 weight to bf16 once a pass, its gradient back."""
    if not recipe.amp:
        return 0.0
    return sum(float(value_of(q.times * q.weight)) * (1 + int(q.right)) for q in made.list if q.weight) * (
        FP32_BYTES + 2
    )


def _communication(made: Pass, recipe: Recipe, run: Run, spec: GpuSpec, gpus: int) -> tuple[float, list[str]]:
    if gpus == 1:
        return 0.0, []
    rate = real(run.link, "--link") * 10**9 if run.link is not None else spec.link_bytes_s
    if rate is None:
        raise InputError(f"--gpus {gpus}: {spec.id} has no link in its preset; give --link in 10^9 bytes/s one way")
    passes = RING_ZERO3 if run.stage == 3 else RING
    seconds = time.collective_seconds(_trained(made) * recipe.gradients, gpus, rate, passes)
    where = f"{rate / 1e9:g} GB/s one way" + (
        "" if run.link is not None else f", {spec.id}'s own link, between all GPUs (slower networks: --link)"
    )
    return seconds, [
        f"data parallel over {gpus:,} GPUs: gradients at {where}, hidden behind the backward pass where it is longer"
    ]
