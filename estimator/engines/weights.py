"""What the weights of one rank take on its GPU: the tensors that an engine makes of a checkpoint, block by block.

Engines fuse q, k and v, and gate and up; copy norms, routers, latent projections and key/value heads beyond their
number; pad the vocabulary; keep a table of the rotary embedding; and hold MLA's expansions a second time, absorbed into
queries and outputs. What is logged is what torch's allocator has handed out, which counts whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import prod
from typing import Any

from estimator.engines.asked import ServerAsked, whole
from estimator.engines.layers import decoder_layers
from estimator.engines.lengths import rope_of
from estimator.errors import InputError
from estimator.families.base import Attention, Layer, Linear, Lookup, MoE
from estimator.families.towers import Tower, walked
from estimator.inventory import EXPERT, LINEAR, Weight
from estimator.ops import round_up
from estimator.parallel import tensor
from estimator.records import dataclass
from estimator.same import Alike, Same
from estimator.storage.layouts import MXFP4
from estimator.trace import value_of

MIB = 1024 * 1024
# torch's caching allocator (c10/core/AllocatorConfig.h, c10/cuda/CUDACachingAllocator.cpp)
STEP, LARGE, SEGMENT, LEFT = 512, 10 * MIB, 2 * MIB, MIB
CUTS_TOWERS = ("vllm", "sglang")
RANK = 16  # of an adapter at most: vLLM config/lora.py of 0.19.0, max_lora_rank
VOCAB_MULTIPLE = 64  # vLLM model_executor/layers/vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE


@dataclass(frozen=True, slots=True)
class ServedCut(tensor.Cut):
    """How an engine cuts: the vocabulary padded to 64 before it is dealt."""

    def vocabulary(self, rows: Any) -> Any:
        return round_up(round_up(rows, VOCAB_MULTIPLE), self.tensor) // self.tensor

    def kv_heads(self, a: Attention) -> Any:
        """Key and value heads of a rank: at least one; what is left over is copied."""
        return max(1, -(-int(a.kv_heads) // int(self.tensor)))


@lru_cache(maxsize=256)
def block(size: int) -> int:
    """Bytes that the allocator counts for a tensor: steps of 512; from 10 MiB a segment of 2 MiB steps, whole where
    1 MiB or less of it is left over."""
    size = round_up(size, STEP)
    if size < LARGE:
        return size
    segment = round_up(size, SEGMENT)
    return segment if segment - size <= LEFT else size


def rank_bytes(asked: ServerAsked, stage: range) -> int:
    """Bytes of the weights of a rank that holds the layers ``stage``, as the allocator counts them.

    A planner asks for them on many cards, and a rank of the same share is weighed once.
    """
    q = asked.question
    key = (
        Same(asked.model), Same(asked.store), asked.engine, asked.version, asked.width, asked.tensor, asked.experts,
        asked.expert_ranks, asked.cut_over, getattr(q, "max_loras", None), getattr(q, "max_lora_rank", None), stage,
    )  # fmt: skip
    return _rank_bytes(Alike((asked, stage), key))


@lru_cache(maxsize=256)
def _rank_bytes(rank: Alike[tuple[ServerAsked, range]]) -> int:
    return sum(n for _, n in blocks(*rank.it))


def blocks(asked: ServerAsked, stage: range) -> Iterator[tuple[str, int]]:
    """(name, bytes that the allocator counts) of every tensor of a rank that holds the layers ``stage``."""
    return ((name, block(n)) for name, n in (*tensors(asked, stage), *adapters(asked, stage)) if n)


def adapters(asked: ServerAsked, stage: range) -> Iterator[tuple[str, int]]:
    """(name, bytes) of the room that a rank keeps for ``--max-loras`` adapters: both matrices of every linear layer, of
    the largest rank, cut as the layer is.

    Source: vLLM lora/layers/base_linear.py of 0.19.0, create_lora_weights; SGLang lora/mem_pool.py of 0.5.9. Not
    counted: those of experts, and of tables and heads, which some classes have.
    """
    count = whole(asked.question, "max_loras", 0)
    if not count:
        return
    rank, layers = whole(asked.question, "max_lora_rank", RANK), decoder_layers(asked.arch)
    cut = ServedCut(asked.tensor, 1)
    for i in stage:
        for w in tensor.layer(layers[i], cut):
            if w.role == LINEAR and len(w.shape) == 2:
                for side in w.shape:
                    yield f"room for adapters: {w.module}", count * rank * int(value_of(side)) * asked.width


def tensors(asked: ServerAsked, stage: range) -> Iterator[tuple[str, int]]:
    """(name, bytes) of every tensor of a rank."""
    arch = asked.arch
    cut = ServedCut(asked.tensor, 1)
    dealt = ServedCut(1 if asked.experts else asked.tensor, asked.expert_ranks)
    layers = decoder_layers(arch)
    if stage.start == 0:
        yield from _plain(asked, _first(asked, cut))
    held: dict[int, list[Layer]] = {}
    for i in stage:
        held.setdefault(id(layers[i]), []).append(layers[i])
    for same in held.values():
        sizes = list(_layer(asked, same[0], cut, dealt))
        for _ in same[:1] if same[0].shared else same:
            yield from sizes
        if (ahead := same[0].ahead) is not None:
            yield from _plain(asked, list(tensor.ahead(ahead, len(same), cut)))
    if stage.stop == len(layers):
        loose = {w.name for w in arch.loose_weights()}
        yield from _plain(asked, [w for w in tensor.last(arch, ServedCut(asked.cut_over, 1)) if w.name not in loose])
        if arch.tied and stage.start > 0:
            yield from _plain(asked, tensor.token_table(arch, cut))
    if stage.start == 0:
        yield from _plain(asked, list(arch.extra_weights))
        for tower in arch.towers:
            yield from _plain(asked, _tower(asked, tower, cut))
    yield from _rotary(asked)


def _first(asked: ServerAsked, cut: ServedCut) -> list[Weight]:
    """What stands before the layers. SGLang copies the tables of a model whose layers have a table of their own.

    Source: SGLang 0.5.9, srt/models/gemma3n_causal.py and gemma3_causal.py, Gemma3TextScaledWordEmbedding.
    """
    tables = [x for x in asked.arch.beside if isinstance(x, Lookup)]
    whole = {w.name: w for x in (*asked.arch.embeddings, *tables) for w in x.weights()} if tables else {}
    found = tensor.first(asked.arch, cut)
    return [whole.get(w.name, w) for w in found] if asked.engine == "sglang" else found


def _tower(asked: ServerAsked, tower: Tower, cut: ServedCut) -> list[Weight]:
    """The weights of a tower on a rank: layers that see, and what merges their tokens, are cut as the text's are, where
    the engine's class does so (:data:`CUTS_TOWERS`) and the heads divide; all else is copied.

    Source: vLLM 0.6.6 to 0.30.0, model_executor/models/siglip.py, clip.py, pixtral.py, qwen2_5_vl.py, qwen3_vl.py (with
    --mm-encoder-tp-mode "weights"); SGLang 0.5.9, srt/layers/attention/vision.py.
    """
    whole = list(tower.weights())
    if asked.tensor == 1 or asked.engine not in CUTS_TOWERS or tower.copied or tower.kind != "vision":
        return whole
    try:
        layers = [(x.times, tensor.layer(x, cut)) for x in tower.layers] if walked(tower) else None
    except InputError:  # heads that the ranks do not divide: copied
        layers = None
    if layers is None:
        return whole
    out = [w for part in (*tower.stem, *tower.final, *tower.pooled) for w in part.weights()]
    out += [w._replace(times=w.times * times) for times, held in layers for w in held]
    matrices = [x for x in tower.bridge if isinstance(x, Linear)]
    pairs = {id(x): how for a, b in zip(matrices[::2], matrices[1::2], strict=False) if value_of(a.d_out == b.d_in)
             for x, how in ((a, tensor.COLUMN), (b, tensor.ROW))}  # fmt: skip
    for x in tower.bridge:
        out += tensor.linear(x, pairs.get(id(x), tensor.WHOLE), cut) if isinstance(x, Linear) else x.weights()
    return out


def _elements(w: Weight) -> int:
    return int(value_of(prod(w.shape)))


def _plain(asked: ServerAsked, found: list[Weight]) -> Iterator[tuple[str, int]]:
    for w in found:
        for _ in range(int(value_of(w.times))):
            yield from ((f"{w.name}#{i}", n) for i, n in enumerate(asked.store.tensors(w.name, _elements(w))))


def _layer(asked: ServerAsked, one: Layer, cut: ServedCut, dealt: ServedCut) -> Iterator[tuple[str, int]]:
    """The tensors of one layer: fused where engines fuse them, experts in the layout of their kernel."""
    moe = one.mlp if isinstance(one.mlp, MoE) else None
    every = tensor.layer(one, cut)
    found = [w for w in every if w.role != EXPERT]
    mlp = one.mlp.shared if isinstance(one.mlp, MoE) else one.mlp
    if asked.joint and mlp is not None:
        names = {part.name for part in mlp.linears}
        found = [w for w in found if w.module not in names] + list(tensor.mlp(mlp, ServedCut(asked.cut_over, 1)))
    if moe is not None:
        found += [w for w in tensor.moe(moe, dealt) if w.role == EXPERT]
    own, ranks = {w.name for w in found}, dealt.tensor * dealt.expert
    found += [w._replace(shape=(_elements(w) // ranks,)) for w in every if w.role == EXPERT and w.name not in own]
    fused: dict[str, list[int]] = {}
    for w in found:
        parts = _expert(asked, w, moe) if w.role == EXPERT and moe else asked.store.tensors(w.name, _elements(w))
        key = _fused(one, w)
        for i, n in enumerate(parts):
            fused.setdefault(f"{key}#{i}", []).append(n * int(value_of(w.times)))
    for name, sizes in fused.items():
        yield name, sum(sizes)
    yield from _absorbed(asked, one)


def _fused(one: Layer, w: Weight) -> str:
    """The tensor that a weight becomes a part of."""
    part = w.name.rpartition(".")[2]
    mixer = one.mixer
    if isinstance(mixer, Attention) and mixer.mla is None and w.module in [p.name for p in mixer.projections]:
        return f"qkv.{part}"
    mlp = one.mlp
    for m in (mlp.shared if isinstance(mlp, MoE) else mlp,):
        if m is not None and m.gated and w.module in [p.name for p in m.linears[:-1]]:
            return f"gate_up.{part}"
    return w.name


def _expert(asked: ServerAsked, w: Weight, moe: MoE) -> tuple[int, ...]:
    """The tensors of a stack of experts on a rank; MXFP4 kernels pad widths to whole tiles."""
    if asked.store.products != MXFP4 or w.is_bias:
        return asked.store.tensors(w.name, _elements(w))
    pad_i, pad_d, scales_too = mxfp4_tiles(asked)
    width = round_up(int(value_of(moe.width)) // (1 if asked.experts else asked.tensor), pad_i)
    several = 2 if moe.gated and "down" not in w.name else 1  # gate and up are one stack
    elements = int(w.shape[0]) * several * width * round_up(int(value_of(moe.d)), pad_d)
    padded, bare = asked.store.tensors(w.name, elements), asked.store.tensors(w.name, _elements(w))
    return padded if scales_too else (padded[0], *bare[1:])


def mxfp4_tiles(asked: ServerAsked) -> tuple[int, int, bool]:
    """Multiples to which an MXFP4 kernel pads an expert's width and the model's, and whether scales are padded too.

    Marlin: 128 and 256; Triton: 64 and 256, codes alone; TensorRT-LLM and FlashInfer's kernels for Blackwell: 256 both.
    vLLM runs Triton's on 9.0 alone (quantization/mxfp4.py of 0.13.0), and only since its wheels hold triton_kernels
    (0.12.0, not 0.11.2: a start of 0.11.0 on an H100 has Marlin's). What 0.19 takes there is nearer to Marlin's tiles.
    """
    made = asked.spec.compute_capability if asked.spec is not None else HOPPER
    if asked.engine == "tensorrt-llm" or (asked.engine == "vllm" and made in BLACKWELL and asked.version >= FLASHINFER):
        return 256, 256, True
    triton = asked.engine == "vllm" and made == HOPPER and TRITON <= asked.version < OTHERS
    return (64, 256, False) if triton else (128, 256, True)


HOPPER, BLACKWELL = "9.0", ("10.0", "10.3")
TRITON, OTHERS, FLASHINFER = (0, 12), (0, 17), (0, 11)


def _absorbed(asked: ServerAsked, one: Layer) -> Iterator[tuple[str, int]]:
    """MLA: W_UK and W_UV once more, for queries and outputs in the latent's space, in the activations' width."""
    mixer = one.mixer
    if not isinstance(mixer, Attention) or mixer.mla is None:
        return
    heads = int(mixer.heads) // asked.tensor
    for side in ("nope", "v"):
        yield f"kv_b absorbed, {side}", int(mixer.mla["kv_rank"]) * heads * int(mixer.mla[side]) * asked.width


def _rotary(asked: ServerAsked) -> Iterator[tuple[str, int]]:
    """Tables of sines and cosines: a row a position, one table for every base frequency.

    vLLM stretches the table of a linear or dynamic scaling by its factor (rotary_embedding/linear_scaling_rope.py).
    """
    found = [a for a in asked.arch.attentions if a.position == "rope"]
    positions = asked.arch.max_positions
    if not found or positions is None:
        return
    bases = _bases(*rope_of(asked.model))
    rope = max(int(value_of(a.rope_dim if a.rope_dim is not None else a.head_dim)) for a in found)
    for scaling in bases:
        kind = scaling.get("rope_type", scaling.get("type"))
        factor = scaling.get("factor", 1) if asked.engine == "vllm" and kind in STRETCHED else 1
        if "mrope_section" in scaling and asked.engine == "vllm" and asked.version >= MROPE:
            factor = MROPE_ROWS
        rows = int(value_of(positions)) * (factor if isinstance(factor, int | float) and factor > 1 else 1)
        yield "rotary table", int(rows) * rope * asked.width


STRETCHED = ("linear", "dynamic")
# positions in three dimensions: rows for four times as many (rotary_embedding/mrope.py; 0.7.3, not 0.6.6)
MROPE, MROPE_ROWS = (0, 7), 4


def _bases(fields: Mapping[str, Any], said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The scaling of each table: one a kind of layer where the config tells them apart."""
    kinds = [v for v in said.values() if isinstance(v, Mapping)]
    if kinds:
        return kinds
    local = any(fields.get(name) for name in ("rope_local_base_freq", "local_rope_theta"))
    return [said, {}] if local else [said]
