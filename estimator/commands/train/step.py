"""One optimizer step on one GPU: its times, what bounds it, and how far off it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from estimator.alike import add_up
from estimator.commands.flops.passes import Pass
from estimator.commands.memory.sharding import DEEPSPEED, TORCH, Spread, narrow_adapters
from estimator.commands.memory.stack import answer_share, reference_of
from estimator.commands.train.compiled import LEAST, MOST, NOTE, compiled
from estimator.commands.train.eight import FP8, SAID, step_in_fp8
from estimator.commands.train.run import Run, real, share
from estimator.commands.train.shard import offload_seconds, python_seconds
from estimator.errors import InputError
from estimator.families.base import MoE
from estimator.formulas import time
from estimator.inventory import EXPERT
from estimator.inventory import total as elements
from estimator.ops import maximum
from estimator.optimizers import OPTIMIZERS, find_optimizer
from estimator.parallel import activations as act
from estimator.parallel.degrees import Degrees
from estimator.parallel.exchange import Exchange, exchange, work_of
from estimator.parallel.hooks import FAST, SLOW
from estimator.parallel.links import GIGA
from estimator.parallel.pipeline import schedule, split, uneven
from estimator.records import dataclass
from estimator.roofline import Accelerator, dense_peak, machine
from estimator.stack.moves import Kernel
from estimator.stack.tape import HALF
from estimator.trace import value_of
from estimator.work.folds import Group
from estimator.work.product import FP32_BYTES, HEAD, Product
from estimator.work.run import operations
from estimator.work.times import LAUNCH, MEMORY, OPTIMIZER, PRODUCTS, ROUTING, How, Times, times

if TYPE_CHECKING:
    from estimator.commands.train.question import Train
    from estimator.recipes.base import Recipe
    from estimator.schemas import GpuSpec

BACKWARD_SHARE = 2 / 3  # a backward pass holds two of a step's three products: what a collective can hide behind
ADAMW_PASSES = OPTIMIZERS["adamw-fused"].passes
# seconds that the device waits for the host in a layer that routes without dropping tokens, forward and backward, and
# for each of its experts: how many tokens go where is read back first, and each expert's products are started alone.
# A pair of a grid (0.5 ms, 0.05 ms) whose mean error is within 2% of the least over the 27 runs with experts of
# tests/accuracy/published_runs.json that are not its four oldest; chosen without one of the models, its runs are 14%
# off in the median, nine of ten within 63%
WAIT, WAIT_AN_EXPERT = 1e-3, 0.4e-3
MOST_WAITS = 4  # times as much that nine of ten of them wait
LOSS = "loss"  # where its kernels stand (stack/model.py)
PACKED = {"nf4": 0.5625, "nf4-dq": 0.516, "int8": 1.0}  # bytes an element: codes and block scales


@dataclass(frozen=True, slots=True)
class StepTime:
    """One optimizer step on one GPU: its products, its times, its range and what bounds it.

    hooks   seconds of the host, of all, that a sharding library's Python takes
    parts   GPUs that share one copy of the model (tensor x pipeline); busy: seconds of the device, by what
    """

    made: Pass
    times: Times
    best: float
    low: float
    high: float
    ideal: float
    exchange: Exchange
    spec: GpuSpec
    peak: float
    parts: int
    notes: tuple[str, ...]
    hooks: float

    @property
    def bound(self) -> str:
        """What decides: kernel launches, memory or compute."""
        if self.times.host > self.times.device:
            return "kernel launches"
        by = self.times.by_bound
        return "memory" if by.get(MEMORY, 0) > by.get("compute", 0) else "compute"


def one_step(made: Pass, recipe: Recipe, run: Run) -> StepTime:
    """The step of ``run``. Raises InputError for a dtype, quantization or link that is not there."""
    from estimator.presets import load_gpu

    q, gpu, degrees, repeats = run.question, run.question.gpu, run.degrees, run.accumulation
    spec = load_gpu(gpu)
    kind = "fp32" if recipe.name == "torch-fp32" else q.dtype
    peak = dense_peak(spec, kind)
    device, parts = machine(gpu, kind), int(degrees.tensor * degrees.pipeline * degrees.context)
    link = None if q.link is None else real(q.link, "--link") * GIGA
    total, own = float(value_of(elements(made.arch.weights()))), trained(made)
    work = work_of(value_of(made.work.b), value_of(made.work.s), degrees, made.work.fused, made.work.checkpointing)
    plan = schedule(q.schedule, degrees.pipeline, repeats, q.virtual_stages)
    stages = split(made.arch, degrees.pipeline, plan.chunks, q.pipeline_split)
    act.check(work)
    sent = exchange(
        made.arch, degrees, recipe.name, run.stage, repeats, work, own, total, spec, link, plan, stages, experts(made)
    )
    part = max(float(value_of(s.count)) for s in stages) / add_up(float(value_of(s.count)) for s in stages)
    ops = run_once(made, recipe, run, kind)
    whole = eager = step_times(made, recipe, run, device, kind, ops, part, sent.bubble, True)
    if q.compile:
        whole = compiled(eager, made.adapter is not None)
    python, hooked = python_seconds(made, recipe, run)
    behind, carried = offload_seconds(made, recipe, run, own, total, spec)
    whole.host += python
    best = best_seconds(whole.device, sent.model - hidden(q, degrees, sent, whole), sent.data, whole.host) + behind
    least = step_times(made, recipe, run, ceiling(device), kind, ops, part)
    low = (compiled(least, made.adapter is not None, LEAST) if q.compile else least).device + behind * FAST
    most = compiled(eager, made.adapter is not None, MOST) if q.compile else whole
    slow = most.device + (MOST_WAITS - 1) * float(whole.of(ROUTING))
    high = slow + whole.host * (SLOW if python else 1.0) + sent.model + sent.data + behind * SLOW
    basis = [*device.notes, *([NOTE] if q.compile else ()), *_kernels_note(recipe, kind, routing_seconds(made, 1) > 0),
             *_optimizer_note(run.optimizer), *sent.notes, *hooked,
             *carried, *uneven(made.arch, degrees.pipeline, plan.chunks, q.pipeline_split)]  # fmt: skip
    mfu = share(q.mfu, "--mfu")
    if mfu is not None:
        flops = float(value_of(Group("", made.list, q.attention_flops == "causal").model)) * repeats
        best = low = high = time.seconds_at_utilisation(flops, parts, peak, mfu)
        basis = [f"--mfu {100 * mfu:g}% of {spec.id}'s dense {kind} peak in place of the roofline"]
    low, high = min(low, best), max(high, best)
    return StepTime(made, whole, best, low, high, min(whole.ideal, low), sent, spec, peak, parts, tuple(basis), python)


def best_seconds(device: float, model: float, data: float, host: float) -> float:
    """Seconds of a step: model-parallel collectives stand alone, data-parallel ones beside the backward pass."""
    return max(device + model + max(0.0, data - device * BACKWARD_SHARE), host)


def hidden(q: Train, degrees: Degrees, sent: Exchange, whole: Times) -> float:
    """Seconds of tensor-parallel collectives that run beside the products they feed (--tp-comm-overlap): all but the
    first of the parts that each is cut into, one a GPU, as far as there are products."""
    if not q.tp_comm_overlap:
        return 0.0
    if degrees.tensor == 1:
        raise InputError("--tp-comm-overlap: there are no such collectives; add --tensor-parallel")
    return float(min(sent.tensor * (1 - 1 / degrees.tensor), value_of(whole.of(PRODUCTS))))


def ceiling(device: Accelerator) -> Accelerator:
    """A machine whose every kernel is as fast as the fastest alone."""
    points = ((1.0, device.best),)
    return replace(device, gemm_points=points, gradient=1.0, elements=device.copy, welford=device.copy, fixed=0.0)


def autocasts(recipe: Recipe, run: Run, dtype: str) -> bool:
    """Whether the forward pass runs under autocast: as asked, or the recipe's, which alone says so of fp32 weights."""
    asked = None if recipe.width == FP32_BYTES else run.question.autocast
    return dtype != "fp32" and (recipe.amp if asked is None else asked != "none")


def wide_adapters(made: Pass, recipe: Recipe, run: Run, dtype: str) -> bool:
    """Whether adapters multiply in fp32."""
    on = Spread(int(value_of(run.degrees.shards)), run.stage, DEEPSPEED if recipe.kind == DEEPSPEED else TORCH)
    return made.cast and not (recipe.narrow or autocasts(recipe, run, dtype) or narrow_adapters(on))


def run_once(made: Pass, recipe: Recipe, run: Run, dtype: str) -> Sequence[Product | Kernel]:
    """What one micro-batch runs, in the widths of the recipe."""
    q, amp = run.question, autocasts(recipe, run, dtype)
    width = FP32_BYTES if dtype == "fp32" or recipe.casts else HALF
    own = FP32_BYTES if amp or wide_adapters(made, recipe, run, dtype) else width
    packed = run.quantization if run.quantization in PACKED else ""
    work = replace(
        made.work, width=width, amp=amp, adapter_width=own, kbit=bool(packed) and q.prepare_kbit, quantization=packed,
        kernels=recipe.kernels,
    )
    ops = operations(made.arch, work, made.adapter)
    if reference_of(q, recipe, made.adapter):
        ops = [*ops, *operations(made.arch, replace(work, mode="forward"), None)]
    share = answer_share(q, recipe, made.work.s, [])
    return ops if share == 1 else [_scored(x, share, value_of(work.b)) for x in ops]


def _scored(x: Product | Kernel, share: Fraction, sequences: int) -> Product | Kernel:
    """The output matrix and the loss on ``share`` of the tokens, the answer's; all else, a pooler too, as it is."""
    part, whole = share.numerator, share.denominator
    if isinstance(x, Product):
        each = x.part == HEAD and value_of(x.m) > sequences
        return x._replace(m=maximum(x.m * part // whole, 1)) if each else x
    return x._replace(moved=x.moved * part // whole) if x.where == LOSS else x


def step_times(
    made: Pass, recipe: Recipe, run: Run, device: Accelerator, dtype: str, ops: Sequence[Product | Kernel],
    part: float = 1.0, idle: float = 0.0, waits: bool = False,
) -> Times:  # fmt: skip
    """The most loaded GPU's passes over ``ops`` and its optimizer step, in plain numbers.

    part: of the layers that its pipeline stage holds; idle: of a pipeline, over busy time; waits: whether a
    layer waits for its routing.
    """
    degrees = run.degrees
    how = _how(recipe, dtype, run.quantization, degrees, wide_adapters(made, recipe, run, dtype))
    if dtype == FP8:
        wide = machine(device.name)
        once = step_in_fp8(ops, device, wide if device.fixed else ceiling(wide), how)
    else:
        once = times(ops, device, how)
    shards = degrees.tensor * degrees.pipeline * (degrees.shards if run.stage else 1)
    apart = degrees.each_expert * degrees.expert / degrees.tensor
    if apart != 1 and not run.stage and experts(made) < trained(made):  # experts that train are divided otherwise
        routed = experts(made) / trained(made)
        shards = shards / (1 - routed + routed / apart)
    moved = optimizer_bytes(made, recipe, run.optimizer) / shards if run.question.offload == "none" else 0.0
    passes = run.accumulation * part
    busy = passes / degrees.context  # of each sequence's tokens
    taken = busy * (1 + idle) * recipe.slower
    out = Times({k: float(value_of(v)) * taken for k, v in once.parts.items()})
    out.add(OPTIMIZER, MEMORY, device.stream(moved))
    if waits and recipe.kernels.experts:
        out.add(ROUTING, LAUNCH, routing_seconds(made, degrees.expert) * passes * (1 + idle))
    out.host = float(value_of(once.host)) * passes * (1 + idle)
    out.ideal = float(value_of(once.ideal)) * busy + moved / device.bandwidth
    return out


def _how(recipe: Recipe, kind: str, quantization: str, degrees: Degrees, adapters32: bool) -> How:
    """How the recipe runs a pass; adapters32: adapters multiply in fp32."""
    width = FP32_BYTES if kind == "fp32" else 2
    if quantization != "none" and quantization not in PACKED:
        known = "training is timed for none, nf4, nf4-dq and int8"
        raise InputError(f"weights stored as {quantization}: {known}; --quantization none times them unpacked")

    def element(q: Product) -> float:
        packed = q.operator == "linear" and q.part not in ("adapters", "output head")
        return PACKED[quantization] if packed else width

    return How(
        width, element if quantization != "none" else None, degrees.tensor,
        degrees.tensor if degrees.sequence else 1, adapters32=adapters32,
        unpack=quantization != "none", autograd=True, every_pair=not recipe.kernels.attention,
        experts=degrees.expert, each_expert=degrees.each_expert,
    )  # fmt: skip


def _kernels_note(recipe: Recipe, dtype: str, routed: bool) -> list[str]:
    """What of a step's kernels is not PyTorch's own."""
    out = [f"{recipe.name}: a norm, a rotation, a gated product is one kernel each"] if recipe.kernels.norms else []
    if routed and recipe.kernels.experts:
        out.append(
            f"tokens are routed evenly and none is dropped: a layer waits {1e3 * WAIT:g} ms for the host in a "
            f"micro-batch and {1e3 * WAIT_AN_EXPERT:g} ms for each expert of the GPU, fitted to 27 published runs "
            f"(high: {MOST_WAITS} times as long); between nodes a token goes once to each that holds one of its "
            "experts (DeepEP)"
        )
    return [*out, SAID] if dtype == FP8 else out


def _optimizer_note(optimizer: str) -> list[str]:
    known = find_optimizer(optimizer).passes
    return [] if known else [f"{optimizer}: its step is taken to move what fused AdamW moves"]


def optimizer_bytes(made: Pass, recipe: Recipe, optimizer: str) -> float:
    """Bytes that one optimizer step reads and writes: gradients read, states and weights read and written."""
    count = trained(made)
    passes = find_optimizer(optimizer).passes or ADAMW_PASSES
    fused = (
        recipe.gradients
        + 2 * recipe.states
        + (2 * recipe.master + recipe.weights if recipe.master else 2 * recipe.weights)
    )
    if made.method != "full" and not recipe.master and made.method != "freeze":
        fused = ADAMW_PASSES * FP32_BYTES  # adapters are kept in fp32
    return count * fused * passes / ADAMW_PASSES


def experts(made: Pass) -> float:
    """Elements of the routed experts."""
    return float(value_of(elements(made.arch.weights(), EXPERT)))


def routing_seconds(made: Pass, degree: Any) -> float:
    """Seconds that the layers of one micro-batch wait for their routing, the experts dealt to ``degree`` GPUs."""
    found = [(g.times, g.mlp.num / degree) for g in made.arch.layers if isinstance(g.mlp, MoE)]
    return sum(float(value_of(n)) * (WAIT + WAIT_AN_EXPERT * float(value_of(own))) for n, own in found)


def trained(made: Pass) -> float:
    """Elements that are trained: full, or the adapters' own, or the unfrozen layers'."""
    if made.adapter is None:
        return float(value_of(elements(made.arch.weights())))
    return float(value_of(made.adapter.trained))
