"""The seconds of one pass through a model: products, attention, the cache, what lies between, kernels, links.

A pass is the list of products of :mod:`estimator.work` and the memory-bound kernels of :mod:`estimator.work.traffic`,
each against the measured ceilings of :mod:`estimator.roofline`. Products of a layer run one after the other, so their
times add up; a pass is never faster than its launches where the host launches every kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from estimator.errors import InputError
from estimator.estimates.kvcache import cache_bytes
from estimator.families.base import Architecture, Attention, StateSpace
from estimator.formulas.inference import all_reduce_seconds
from estimator.ops import ceil_div, maximum, minimum
from estimator.roofline import Machine
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE
from estimator.work import Product, Workload, products
from estimator.work.product import ATTENTION
from estimator.work.traffic import W, forward

COMPUTE, MEMORY, CACHE, LAUNCH, LINK = "compute", "memory", "cache", "launch", "communication"
UNPACK_ROWS = 1  # bitsandbytes MatMul4Bit: a single row is multiplied with the packed matrix, more with an unpacked one
UNPACKED = ("nf4", "nf4-dq", "fp4")
ENGINES = ("transformers", "fused")


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served.

    element     bytes an element of a stored weight by its name, ``default`` for the others
    kv_bits     bits of a cached number; gpus: tensor-parallel accelerators
    engine      "transformers" (its kernels one by one) or "fused" (a serving engine's)
    graph       decode steps are replayed from a CUDA graph: the host launches nothing
    """

    arch: Architecture
    machine: Machine
    element: Mapping[str, float]
    default: float
    weights_bytes: Any
    kv_bits: int
    gpus: int = 1
    engine: str = "transformers"
    graph: bool = True
    unpack: bool = False

    @property
    def fused(self) -> bool:
        return self.engine == "fused"

    def bytes_of(self, q: Product) -> float:
        """Bytes an element of the weight that a product reads."""
        return self.element.get(f"{q.name}.weight", self.element.get(q.name, self.default))


@dataclass(slots=True)
class Step:
    """Seconds of a pass by what bounds them, and the two sides of the ideal roofline.

    launches: kernels; host: whether the host launches them while the pass runs.
    """

    seconds: dict[str, Any] = field(default_factory=dict)
    flops: Any = 0
    moved: Any = 0
    launches: Any = 0
    host_seconds: Any = 0
    ideal: Any = 0

    def add(self, bound: str, seconds: Any) -> None:
        self.seconds[bound] = self.seconds.get(bound, 0) + seconds

    @property
    def device_seconds(self) -> Any:
        """Seconds that the accelerator is busy."""
        return sum(self.seconds.values())

    @property
    def total(self) -> Any:
        """Seconds of the pass: the accelerator's, or the host's launches where they take longer."""
        return maximum(self.device_seconds, self.host_seconds)

    @property
    def bound(self) -> str:
        """What takes the largest part: compute, memory, cache, launch or communication."""
        if value_of(self.host_seconds) > value_of(self.device_seconds):
            return LAUNCH
        return max(self.seconds, key=lambda k: float(value_of(self.seconds[k])))


def prefill(serve: Serving, b: Any, s: Any) -> Step:
    """The pass over a prompt of s tokens of b sequences; only the last token's logits are computed.

    Of an encoder-decoder: the encoder over s tokens and the decoder's first token.
    """
    arch = serve.arch
    two = arch.kind == "encoder-decoder"
    work = Workload("forward", b, 1 if two else s, encoder=s if two else None, last=True)
    made = products(arch, work)
    step = Step()
    _multiply(step, serve, made, b * s, b)
    traffic = forward(arch, b, 1 if two else s, encoder=s if two else None, fused=serve.fused, shards=serve.gpus)
    _pass(step, serve, made, traffic, b * s, b)
    step.host_seconds = step.launches * serve.machine.launch
    written = cache_bytes(arch, b, 1 if two else s, s if two else 0, serve.kv_bits)
    step.ideal = serve.machine.ideal(step.flops, step.moved + written / cache_shards(serve))
    return step


def decode(serve: Serving, b: Any, context: Any, encoder: Any = 0, drafted: int = 0) -> Step:
    """One decode step over ``context`` cached tokens: a token of each sequence, or 1 + ``drafted`` to verify."""
    arch = serve.arch
    rows = b * (1 + drafted)
    made = products(arch, Workload("decode", rows, context=context, encoder=encoder or None))
    made = [_absorbed(q, rows) for q in made] if serve.fused else made
    step = Step()
    held = cache_bytes(arch, b, context + 1 + drafted, encoder, serve.kv_bits)
    cache = held / cache_shards(serve)
    compute = _multiply(step, serve, made, rows, rows)
    step.add(CACHE, maximum(cache / serve.machine.copy, compute))
    step.seconds[COMPUTE] = step.seconds.get(COMPUTE, 0) - compute
    traffic = forward(arch, rows, 1, context, encoder or None, serve.fused, ("decoder",), serve.gpus)
    _pass(step, serve, made, traffic, rows, rows)
    step.host_seconds = 0 if serve.graph else step.launches * serve.machine.launch
    step.ideal = serve.machine.ideal(step.flops, step.moved + cache)
    return step


def _absorbed(q: Product, rows: Any) -> Product:
    """MLA in a serving engine: the expansion of the latent is absorbed into queries and outputs, a token each.

    DeepSeek-V2, arXiv 2405.04434, section 2.1.2.
    """
    return replace(q, m=rows) if q.name.endswith("kv_b_proj") and q.m > rows else q


def _multiply(step: Step, serve: Serving, made: list[Product], rows: Any, logits_rows: Any) -> Any:
    """Add every product; returns the seconds of attention, which are counted as compute."""
    machine, shards = serve.machine, serve.gpus
    compute: Any = 0
    for q in made:
        work = q.forward(causal=True)
        step.flops = step.flops + (work / shards if shards > 1 else work)
        if q.operator == "sdpa":
            seconds = (
                q.times * machine.attention(_pairs(q, serve) * q.count, q.k if q.pairs_of == "n" else q.n) / shards
            )
            if q.name.endswith("values"):  # one exponential a pair, counted with the scores
                seconds = q.times * _pairs(q, serve) * q.count * 2 * q.n / machine.best / shards
            compute = compute + seconds
            step.add(COMPUTE, seconds)
            continue
        element = serve.bytes_of(q)
        seconds = q.times * machine.product(q, element, shards)
        arrive = q.times * q.weight * element / shards
        step.moved = step.moved + arrive
        bound = q.weight and value_of(arrive / machine.skinny_rate(q.m)) >= value_of(seconds) * (1 - 1e-9)
        if q.part == ATTENTION:
            compute = compute + seconds
        step.add(MEMORY if bound else COMPUTE, seconds)
        if serve.unpack and q.weight and q.m > UNPACK_ROWS and element < W:
            step.add(MEMORY, q.times * machine.stream(q.weight * (element + W)) / shards)
    return compute


def _pairs(q: Product, serve: Serving) -> Any:
    """Query-key pairs that the kernel computes: with a window, transformers passes a mask and all are computed."""
    if q.pairs is None:
        return q.m * q.n if q.pairs_of == "n" else q.m * q.k
    s = q.m
    if not serve.fused and q.pairs < s * (s + 1) // 2:
        return s * (q.n if q.pairs_of == "n" else q.k)
    return q.pairs


def _pass(step: Step, serve: Serving, made: list[Product], traffic: Any, rows: Any, logits_rows: Any) -> None:
    """Memory-bound kernels, the kernels' own time, and the links."""
    machine = serve.machine
    step.add(MEMORY, machine.stream(traffic.moved) + machine.strided(traffic.strided))
    launched = sum((q.times for q in made if not (q.operator == "sdpa" and q.name.endswith("values"))), start=0)
    step.launches = launched + traffic.kernels
    step.add(LAUNCH, step.launches * machine.fixed)
    if serve.gpus > 1:
        step.add(LINK, link_seconds(serve, rows))


def link_seconds(serve: Serving, rows: Any) -> Any:
    """Two all-reduces of the hidden states a layer (Shoeybi et al. 2019, arXiv 1909.08053, section 3); one where the
    mixer and the MLP run side by side or there is no MLP."""
    arch, machine = serve.arch, serve.machine
    if machine.link is None:
        raise InputError(f"--gpus {serve.gpus}: presets/gpus/{machine.name}.toml gives no link between accelerators")
    counts = sum(
        (g.times * (1 if g.wiring in ("parallel", "mixer") else 2 + (g.cross is not None)) for g in arch.layers),
        start=0,
    )
    steps = 2 * (serve.gpus - 1).bit_length()  # up and down a binary tree
    return counts * all_reduce_seconds(rows * arch.hidden * W, serve.gpus, machine.link, steps, machine.fixed)


def cache_shards(serve: Serving) -> Any:
    """Over how many accelerators a cache is split: key/value heads are whole, a latent is on all of them."""
    if serve.gpus == 1:
        return 1
    heads = [g.mixer.kv_heads for g in serve.arch.layers if isinstance(g.mixer, Attention) and g.mixer.mla is None]
    return minimum(serve.gpus, *(int(h) for h in heads)) if heads else 1


def check_split(arch: Architecture, gpus: int) -> None:
    """InputError unless the query heads can be split over ``gpus``."""
    for g in arch.layers:
        heads = g.mixer.heads if isinstance(g.mixer, Attention) else g.mixer.sizes.get("heads", gpus)
        if isinstance(g.mixer, StateSpace) and g.mixer.inner % gpus == 0:
            continue
        if heads % gpus != 0:
            raise InputError(f"--gpus {gpus}: {int(heads)} attention heads cannot be split evenly over {gpus}")


def bits_of(serve: Serving, params: Any) -> Any:
    """Bits a weight takes as stored, on average, rounded up."""
    return ceil_div(serve.weights_bytes * BITS_PER_BYTE, params)
