"""Seconds of one pass in llama.cpp: the bytes and products of each place, and the launches of its graph."""

from __future__ import annotations

from estimator.alike import add_up
from estimator.engines.llamacpp.backend import Place
from estimator.engines.llamacpp.caches import cache_rows, cells_of, indexer_row
from estimator.engines.llamacpp.context import GATED
from estimator.engines.llamacpp.graph import bytes_of
from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.model import build, ordered
from estimator.engines.llamacpp.passes import size
from estimator.engines.llamacpp.placement import HOST
from estimator.engines.llamacpp.schedule import OFFLOAD_FROM
from estimator.families.base import Attention, MoE
from estimator.records import NamedTuple
from estimator.work.product import MULTIPLY_ADD

PLAIN_MIXES = ("f16", "bf16", "f32")
BLOCKS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl")
UNCOPIED = 64  # tokens up to which CUDA multiplies quantised weights as they are (ggml-cuda: MMQ_MAX_BATCH_SIZE)
HALF = 2  # bytes of a 16-bit number
# seconds to hand a token over between host and device: gpt-oss-120b with 26 layers' experts on the host of a 3090 and
# with all 36 on a 14900K, Qwen3-30B-A3B with 36 on the host of a 2080 take 39, 53 and 61 us (tests/engines,
# llamacpp_host.json)
CROSSING = 5e-5


class PlaceWork(NamedTuple):
    """What a pass does in one place: weights (bytes, numbers) and cache that it reads, FLOPs, kernels, bytes moved;
    crossings: how often it is handed over between the host and a device.
    """

    weights: float = 0.0
    cache: float = 0.0
    query_cache: float = 0.0
    flops: float = 0.0
    kernels: float = 0.0
    products: float = 0.0
    moved: float = 0.0
    sent: float = 0.0
    numbers: float = 0.0
    crossings: float = 0.0

    def __add__(self, other: object) -> PlaceWork:
        assert isinstance(other, PlaceWork)
        return PlaceWork(*(a + b for a, b in zip(self, other, strict=True)))


class Seconds(NamedTuple):
    """A pass: what takes how long, and the roofline alone."""

    weights: float
    products: float
    cache: float
    activations: float
    launches: float
    sent: float
    ideal: float

    @property
    def total(self) -> float:
        """Weights pass while products run; the rest comes on top."""
        return max(self.weights, self.products) + self.cache + self.activations + self.launches + self.sent

    @property
    def bound(self) -> str:
        parts = {"memory": self.weights, "compute": self.products, "cache": self.cache, "launch": self.launches,
                 "activations": self.activations, "communication": self.sent}  # fmt: skip
        return max(parts, key=lambda k: parts[k])


def one_pass(load: Load, places: tuple[Place, ...], mix: str, tokens: int, cached: float, rows: int) -> Seconds:
    """A pass of ``tokens`` tokens (all sequences) over ``cached`` tokens a sequence; ``rows`` of logits.

    places: the host, then the devices.
    """
    shares = _shares(load, places, tokens, cached, rows)
    out = [_seconds(s, p, mix, tokens, load.context.flash) for s, p in zip(shares, places, strict=True)]
    return Seconds(*(add_up(x) for x in zip(*out, strict=True)))


def _seconds(s: PlaceWork, p: Place, mix: str, tokens: int, fused: bool) -> Seconds:
    r = p.rates
    plain = mix in PLAIN_MIXES
    share, unpack = (r.plain, 0.0) if plain else (r.blocks, 0.0) if mix in BLOCKS else (r.packed, r.unpack_k)
    rate = r.integer * p.clocks if r.integer and p.clocks and not plain else share * p.peak
    copied = 0.0
    if r.copies and not plain and tokens > UNCOPIED:
        copied = (s.weights + HALF * s.numbers * r.copies) / p.bandwidth
    cache = (s.query_cache if r.by_query and not fused else s.cache) / (p.bandwidth * r.cached)
    ideal = max((s.weights + s.cache) / p.bandwidth, s.flops / (p.peak if plain else p.packed_peak))
    return Seconds(
        s.weights / (p.bandwidth * r.read) + s.numbers * unpack / p.vector,
        s.flops / rate + copied, cache, s.moved / (p.bandwidth * r.moved),
        (s.kernels + (0 if plain or not r.quantises else s.products)) * r.launch + s.crossings * CROSSING,
        s.sent / p.link if p.link else 0.0, ideal,
    )  # fmt: skip


def _shares(load: Load, places: tuple[Place, ...], tokens: int, cached: float, rows: int) -> list[PlaceWork]:
    out = [PlaceWork() for _ in places]
    n, each = load.place.layers, tokens // load.context.sequences or 1
    graph = _per_layer(load, tokens, int(cached) + each)
    for i, layer in enumerate(ordered(load.arch)):
        own = load.place.of(i)
        part = load.weights.layers[i]
        run = own if own != HOST or tokens < OFFLOAD_FROM or len(places) == 1 else 1
        experts = _experts_read(layer.mlp, tokens) if isinstance(layer.mlp, MoE) else 1.0
        active = size(layer.mlp.per_token) / size(layer.mlp.num) if isinstance(layer.mlp, MoE) else 0.0
        kept_away = own != HOST and load.place.experts_on_host(i)
        there = HOST if kept_away and tokens < OFFLOAD_FROM else run
        elements, added = _elements(load, i), load.pairs(i)
        out[run] += PlaceWork(
            sum(pair.a + pair.b for pair in added), flops=MULTIPLY_ADD * tokens * sum(x.elements for x in added)
        )
        flops, numbers = MULTIPLY_ADD * tokens * elements.rest, elements.rest
        out[run] += PlaceWork(part.rest if run == own else 0, 0, 0, flops, *graph, numbers=numbers)
        sent = (part.rest if run != own else 0) + (part.experts * experts if kept_away or run != own else 0)
        local = there in (own, HOST)
        out[there] += PlaceWork(
            part.experts * experts if local else 0, 0, 0, MULTIPLY_ADD * tokens * elements.experts * active,
            numbers=elements.experts * experts,
        )  # fmt: skip
        out[run] += PlaceWork(sent=sent if there == run and tokens >= OFFLOAD_FROM else 0)
        if tokens < OFFLOAD_FROM:
            beside = kept_away + (load.cache_on_host and own != HOST)
            between = own != load.place.of(i + 1) and HOST in (own, load.place.of(i + 1))
            out[HOST] += PlaceWork(crossings=2.0 * beside + between)
        out[HOST if load.cache_on_host else own] += _attention(load, layer.mixer, tokens, cached + each / 2)
    end = load.place.of(n)
    numbers = size(load.arch.vocab) * size(load.arch.hidden)
    out[end] += PlaceWork(load.weights.head, flops=MULTIPLY_ADD * rows * numbers, numbers=numbers)
    return out


def _experts_read(moe: MoE, tokens: int) -> float:
    """The share of the experts that ``tokens`` tokens choose, if each chooses at random."""
    miss = 1 - size(moe.per_token) / size(moe.num)
    return 1 - float(miss**tokens)


class Elements(NamedTuple):
    """Numbers in a layer's matrices: routed experts, and all else."""

    experts: float
    rest: float


def _elements(load: Load, i: int) -> Elements:
    found = load.weights.elements[i]
    return Elements(float(found.experts), float(found.rest))


def _attention(load: Load, mixer: object, tokens: int, seen: float) -> PlaceWork:
    """Keys and values read, and the scores' products; nothing for a recurrent mixer, whose state is small."""
    if not isinstance(mixer, Attention):
        return PlaceWork()
    b = load.context.sequences
    seen = min(seen, float(cells_of(mixer, load.gguf, load.context)))
    k, v = cache_rows(mixer, load.arch, load.context)
    per_query = size(mixer.heads) / max(1, size(mixer.kv_heads))
    read = b * seen * (k + v + indexer_row(mixer, load.context))
    width = size(mixer.head_dim) + size(mixer.v_head_dim or mixer.head_dim)
    flops = MULTIPLY_ADD * tokens * seen * size(mixer.heads) * width
    once = 1.0 if tokens <= b else 0.0  # a prompt's scores are products: their operands stay on the chip
    return PlaceWork(0, read * once, read * per_query * once, flops)


def _per_layer(load: Load, tokens: int, cells: int) -> tuple[float, float, float]:
    """(kernels, products with weights, bytes of activations read and written) of a layer: the graph's, shared out."""
    from dataclasses import replace

    c = replace(load.context, asked=max(1, cells) * load.context.sequences, n_ubatch=tokens, n_batch=tokens, outputs=1,
                build=max(load.context.build, GATED))  # all rates were fitted with gates of one node
    p = build(load.arch, load.gguf, c, load.loras)
    kernels = products = 0
    moved = 0.0
    for t in p.graph.nodes:
        if t.root is not None:
            kernels += t.op == "STORE"
            continue
        kernels += 1
        products += bool(t.weight)
        moved += t.bytes + sum(bytes_of(s.shape, s.type) for s in t.sources if not s.held and s.op != "INPUT")
    n = load.place.layers
    return kernels / n, products / n, (moved / n if tokens > load.context.sequences else 0.0)
