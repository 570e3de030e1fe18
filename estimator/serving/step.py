"""The seconds of one pass through a served model: the fold of :mod:`estimator.work.times` over a prefill or a decode
step, with the cache's bytes and the all-reduces of tensor parallelism."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Layer, MoE, NoMixer, StateSpace
from estimator.formulas.inference import all_reduce_seconds, direct_sum_seconds, experts_met
from estimator.kv.layers import cache_bytes
from estimator.ops import maximum, minimum
from estimator.parallel.messages import sums
from estimator.records import dataclass
from estimator.roofline import BF16, Accelerator
from estimator.schemas import MIB
from estimator.stack.moves import Kernel
from estimator.trace import value_of
from estimator.work.product import Product
from estimator.work.run import timed
from estimator.work.times import ATTENTION, CACHE, CACHED, LINK, LINKS, How, Times, times
from estimator.work.workload import PassSizes

UNPACKED = ("nf4", "nf4-dq", "fp4", "fp4-dq")
ENGINES = ("transformers", "fused")
DIRECT = 8 * MIB  # bytes of the largest all-reduce by an engine's own kernel
ONE_STAGE = {2: DIRECT, 4: MIB // 2, 6: MIB // 4, 8: MIB // 4}  # below these bytes in one stage, by accelerators


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served.

    element     bytes an element of a stored weight by its name, ``default`` for the others
    kv_bits     bits of a cached number; gpus: tensor-parallel accelerators
    engine      "transformers" (its kernels one by one) or "fused" (a serving engine's)
    dealt       over how many of them the tokens of a sequence's cache are dealt, beside its heads
    graph       decode steps are replayed from a CUDA graph: the host launches nothing
    direct      all-reduces read the other accelerators' memory: the kernels of serving engines over NVLink
    by_query    attention reads a sequence's keys and values once a query head, not once for all that share them
    experts     accelerators of the tensor and data groups over which whole experts are dealt; together: data-parallel
                ranks that share MLPs and the output matrix too
    """

    arch: Architecture
    machine: Accelerator
    element: Mapping[str, float]
    default: float
    weights_bytes: Any
    kv_bits: int
    gpus: int = 1
    engine: str = "transformers"
    graph: bool = True
    unpack: bool = False
    dealt: int = 1
    by_query: bool = False
    direct: bool = False
    experts: int = 1
    together: int = 1

    @property
    def peers(self) -> int:
        """Data-parallel ranks whose tokens meet in the experts."""
        return max(self.together, self.experts // self.gpus)

    @property
    def fused(self) -> bool:
        return self.engine == "fused"

    def bytes_of(self, q: Product) -> float:
        """Bytes an element of the weight that a product reads."""
        return self.element.get(f"{q.name}.weight", self.element.get(q.name, self.default))

    def how(self, decode: bool) -> How:
        """How its operations are executed."""
        sides = ("decoder",) if decode and self.arch.kind == "encoder-decoder" else ("encoder", "decoder")
        layers = sum((g.times for g in self.arch.layers if g.side in sides), start=0)
        return How(
            BF16, element=self.bytes_of, shards=self.gpus, every_pair=not self.fused, decode=decode,
            unpack=self.unpack, fused_scan=True, layers=0 if self.fused else layers,
            experts=self.experts, each_expert=1 if self.experts > 1 else None, together=self.together,
        )  # fmt: skip


def prefill(serve: Serving, b: Any, s: Any) -> Times:
    """The pass over a prompt of s tokens of b sequences; only the last token's logits are computed.

    Of an encoder-decoder: the encoder over s tokens and the decoder's first token.
    """
    two = serve.arch.kind == "encoder-decoder"
    work = PassSizes(
        "forward", b, 1 if two else s, encoder=s if two else None, last=True, engine=serve.fused, fused_scan=True,
        uncapped=True, caches=True,
    )
    out = times(timed(serve.arch, work), serve.machine, serve.how(False))
    _links(out, serve, b * s)
    return out


def decode(serve: Serving, b: Any, context: Any, encoder: Any = 0, drafted: int = 0) -> Times:
    """One decode step over ``context`` cached tokens: a token of each sequence, or 1 + ``drafted`` to verify."""
    rows, machine = b * (1 + drafted), serve.machine
    work = PassSizes(
        "decode", rows, context=context, encoder=encoder or None, engine=serve.fused, fused_scan=True, uncapped=True
    )
    stacks = {e.name: g.mlp for g in serve.arch.layers if isinstance(g.mlp, MoE) for e in g.mlp.experts}
    made = [_met(q, rows * serve.peers, stacks) for q in timed(serve.arch, work)]
    out = times([_absorbed(q, rows) for q in made] if serve.fused else made, machine, serve.how(True))
    held = cache_bytes(serve.arch, b, context + 1 + drafted, encoder, serve.kv_bits)
    cache = held / cache_shards(serve)
    compute = out.of(ATTENTION)  # the scores and values of one row a sequence wait for the cache
    for key in [k for k in out.parts if k[0] == ATTENTION]:
        del out.parts[key]
    read = cache * sharing(serve.arch) if serve.by_query else cache
    out.add(CACHED, CACHE, maximum(read / machine.copy, compute))
    out.ideal = out.ideal + cache / machine.bandwidth
    _links(out, serve, rows)
    if serve.graph:
        out.host = 0
    return out


def _absorbed(q: Product | Kernel, rows: Any) -> Product | Kernel:
    """MLA in a serving engine: the expansion of the latent is absorbed into queries and outputs, a token each.

    DeepSeek-V2, arXiv 2405.04434, section 2.1.2.
    """
    return q._replace(m=rows) if isinstance(q, Product) and q.name.endswith("kv_b_proj") and q.m > rows else q


def _met(q: Product | Kernel, rows: Any, stacks: Mapping[str, MoE]) -> Product | Kernel:
    """A product with the experts that ``rows`` tokens meet: tokens choose alike now and then."""
    if not isinstance(q, Product) or q.name not in stacks:
        return q
    block = stacks[q.name]
    every = block.num + block.idle
    met = experts_met(every, block.per_token, rows) * block.num / every
    return q._replace(weight=met * q.k * q.n)


def _links(out: Times, serve: Serving, rows: Any) -> None:
    """Two all-reduces of the hidden states a layer (Shoeybi et al. 2019, arXiv 1909.08053, section 3); one where the
    mixer and the MLP run side by side or there is no MLP."""
    arch, machine, ranks = serve.arch, serve.machine, serve.gpus * serve.peers
    if ranks == 1:
        return
    if machine.link is None:
        raise InputError(f"--gpus {ranks}: presets/gpus/{machine.name}.toml gives no link between accelerators")
    shared = [g.times for g in arch.layers if _shared(g, serve)]
    if shared:
        n = rows * serve.peers * arch.hidden * BF16
        each = all_reduce_seconds(n, ranks, machine.link, 2 * (ranks - 1), machine.fixed)
        out.add(LINKS, LINK, sum(shared, start=0) * each)
    if serve.gpus > 1:
        counts = sum((g.times * (sums(g) - _shared(g, serve)) for g in arch.layers), start=0)
        out.add(LINKS, LINK, counts * _summed(serve, rows * arch.hidden * BF16, machine.link))


def _shared(layer: Layer, serve: Serving) -> bool:
    """Whether data-parallel ranks share the layer's MLP: its rows are gathered from all of them, and the results summed
    back, round a ring.

    Source: vLLM 0.19.0 distributed/device_communicators/all2all.py (allgather_reducescatter, its default); SGLang 0.5.9
    layers/dp_attention.py (dp_gather_partial, dp_scatter).
    """
    if serve.peers == 1 or layer.mlp is None:
        return False
    return serve.together > 1 or isinstance(layer.mlp, MoE)


def _summed(serve: Serving, n: Any, link: float) -> Any:
    """Seconds of one all-reduce of n bytes: NCCL's, up and down a binary tree, or an engine's own kernel.

    Source: vLLM csrc/custom_all_reduce.cuh and distributed/device_communicators/custom_all_reduce.py, whose kernels
    SGLang has too: below a size each reads what all others have, between two barriers; above it sums a part and
    gathers, between three; at most 8 MiB.
    """
    gpus, fixed = serve.gpus, serve.machine.fixed
    if serve.direct and gpus in ONE_STAGE and value_of(n) < DIRECT:
        if value_of(n) < ONE_STAGE[gpus]:
            return direct_sum_seconds(n, gpus, link, 2 * fixed)
        return all_reduce_seconds(n, gpus, link, 3, fixed)
    return all_reduce_seconds(n, gpus, link, 2 * (gpus - 1).bit_length(), fixed)


def cache_shards(serve: Serving) -> Any:
    """Over how many accelerators a cache is split: key/value heads are whole, a latent is on all; then by tokens."""
    if serve.gpus == 1:
        return 1
    heads = [g.mixer.kv_heads for g in serve.arch.layers if isinstance(g.mixer, Attention) and g.mixer.mla is None]
    shards = minimum(serve.gpus, *(int(h) for h in heads)) if heads else 1
    return minimum(serve.gpus, serve.dealt * shards) if serve.dealt > 1 else shards


def sharing(arch: Architecture) -> Any:
    """Query heads that share a key/value head, the most of all layers; a latent is shared by its kernel."""
    mixers = [g.mixer for g in arch.layers if isinstance(g.mixer, Attention) and g.mixer.mla is None]
    return maximum(1, *(m.heads // m.kv_heads for m in mixers))


def check_split(arch: Architecture, gpus: int) -> None:
    """InputError unless the query heads can be split over ``gpus``."""
    for g in arch.layers:
        if isinstance(g.mixer, NoMixer) or (isinstance(g.mixer, StateSpace) and g.mixer.inner % gpus == 0):
            continue
        heads = g.mixer.heads if isinstance(g.mixer, Attention) else g.mixer.sizes.get("heads", gpus)
        if heads % gpus != 0:
            raise InputError(f"--gpus {gpus}: {int(heads)} attention heads cannot be split evenly over {gpus}")
