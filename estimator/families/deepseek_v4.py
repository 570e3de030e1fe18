"""DeepSeek-V4: hyper-connections around every block; one key a token that is the value too, a window of them, and
older tokens pooled, four at a time (and chosen by an indexer) or 128 at a time; experts, the first layers' by hashing.

Multi-token-prediction layers are not part of the built class.
Source: transformers 5.24, models/deepseek_v4/modeling_deepseek_v4.py and configuration_deepseek_v4.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import (
    OTHER,
    Architecture,
    Attention,
    Buffer,
    Extra,
    Layer,
    Linear,
    MoE,
    Norm,
    Pooling,
    Streams,
    Weight,
)
from estimator.families.common import gated_mlp, layer_count, layer_groups
from estimator.families.common_moe import decoder, expert_sizes, layer_types, mlp_types, pre_norms, routed
from estimator.families.common_parts import PoolIndex

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"
WINDOW, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
OLDER = {0: WINDOW, 4: SPARSE, 128: HEAVY}  # compress_ratios of published files -> the kind of a layer
RATES = {SPARSE: 4, HEAVY: 128}
HASH, CHOSEN = "hash_moe", "moe"
# modules that transformers leaves as they are when it quantises
KEPT = (
    "self_attn.compressor.kv_proj", "self_attn.compressor.gate_proj", "self_attn.compressor.indexer.kv_proj",
    "self_attn.compressor.indexer.gate_proj", "self_attn.compressor.indexer.scorer.weights_proj",
)  # fmt: skip
LOOKED_UP, BIASED = "looked_up", "biased"  # MoE.routing
INT64 = 8  # bytes of an expert's number in the table of the tokens, which is stored too
HASHED = 3  # first layers whose experts are looked up by the token


def build(c: Config) -> Architecture:
    """DeepSeek-V4 from its config."""
    d, h, d_h = c.size("hidden_size", 4096), c.size("num_attention_heads", 64), c.size("head_dim", 512)
    L, n = c.size("num_hidden_layers", 43), c.size("hc_mult", 4)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 256, 6)
    kinds, mlps = _kinds(c, L), _mlps(c, L)
    rates, rounds = _rates(c), c.plain("hc_sinkhorn_iters", 20, least=1)
    mixers = {kind: _attention(c, d, h, d_h, kind, rates) for kind in dict.fromkeys(kinds)}
    width, act = c.size("moe_intermediate_size|intermediate_size", 2048), c.text("hidden_act", "silu")
    shared = gated_mlp(f"{LAYER}.mlp.shared_experts", d, width, act, c.flag("mlp_bias", False))._replace(clamped=True)
    experts = {
        kind: routed(f"{LAYER}.mlp", d, width, E, k, act, shared=shared, routing=routing, clamped=True)
        for kind, routing in ((HASH, LOOKED_UP), (CHOSEN, BIASED))
    }
    both = connections(n, d, rounds)
    norms = pre_norms(LAYER, d, "rms_late")
    layers = [
        Layer(times, mixers[kind], experts[chosen], *norms, wiring="streams", streams=both, indices=at)
        for (kind, chosen), times, at in layer_groups(list(zip(kinds, mlps, strict=True)), L, c.traced)
    ]
    hashed = sum(x == HASH for x in mlps)
    table = Buffer("experts of the tokens", (c.size("vocab_size", 129280), k), INT64, hashed)
    made = decoder(
        c, tuple(layers), d, L, 129280, 1048576, facts={"streams": n}, kept=KEPT, constants=(table,) if hashed else (),
        buffers=tuple(
            Weight(f"{LAYER}.mlp.gate.e_score_correction_bias", (E,), x.times, layers=x.indices)
            for x in layers if isinstance(x.mlp, MoE) and x.mlp.routing == BIASED
        ),
    )  # fmt: skip
    return made._replace(final=(_streams("model.hc_head.hc", n, d), Norm("model.norm", d, "rms_late")))


def _kinds(c: Config, L: Any) -> list[str]:
    """The attention of every layer: ``layer_types``, published files' ``compress_ratios``, or the class's pattern."""
    older = c.items("compress_ratios")
    if c.raw.get("layer_types") is None and older is not None:
        depth = layer_count(c, L)
        odd = [x for x in older if x not in tuple(OLDER)]
        if odd or len(older) < depth:
            got = str(odd[0])[:40] if odd else f"{len(older)} entries"
            raise InputError(f"{c.where}: compress_ratios must be 0, 4 or 128 for each of {depth} layers, got {got}")
        return [OLDER[x] for x in older[:depth]]
    return layer_types(c, L, (WINDOW, SPARSE, HEAVY), lambda i: SPARSE if i > 1 and i % 2 else HEAVY)


def _mlps(c: Config, L: Any) -> list[str]:
    """How every layer's experts are chosen."""
    of = mlp_types(
        c, L, lambda i: HASH if i < c.plain("num_hash_layers", HASHED) else CHOSEN, {HASH: HASH, CHOSEN: CHOSEN}
    )  # fmt: skip
    return [of(i) for i in range(layer_count(c, L))]


def _rates(c: Config) -> dict[str, int]:
    """Tokens that are pooled into one key."""
    given = c.raw.get("compress_rates")
    inner = Config(given if isinstance(given, dict) else {}, where=f"{c.where}: compress_rates")
    older = {SPARSE: "compress_rate_csa", HEAVY: "compress_rate_hca"}
    return {kind: c.plain(older[kind], inner.plain(kind, rate, least=1), least=1) for kind, rate in RATES.items()}


def _attention(c: Config, d: Any, h: Any, d_h: Any, kind: str, rates: dict[str, int]) -> Attention:
    rank, groups = c.size("q_lora_rank", 1024), c.size("o_groups", 8)
    c.divides(groups, h * d_h, "o_groups", "num_attention_heads * head_dim")
    low = groups * c.size("o_lora_rank", 1024)
    rope = c.plain("qk_rope_head_dim", int(d_h * c.number("partial_rotary_factor", 0.125)), least=2)
    if rope > d_h:
        raise InputError(f"{c.where}: qk_rope_head_dim={rope} is more than head_dim={int(d_h)}")
    return Attention(
        projections=(
            Linear(f"{ATTN}.q_a_proj", d, rank), Linear(f"{ATTN}.q_b_proj", rank, h * d_h),
            Linear(f"{ATTN}.kv_proj", d, d_h), Linear(f"{ATTN}.o_a_proj", h * d_h // groups, low, subclass=True),
        ),
        out=Linear(f"{ATTN}.o_b_proj", low, d), heads=h, kv_heads=1, head_dim=d_h, rope_dim=rope,
        rope_style="interleaved", window=c.size("sliding_window", 128), sdpa=False, form="pooled", sinks=True,
        norms=(Norm(f"{ATTN}.q_a_norm", rank, "rms_late"), Norm(f"{ATTN}.kv_norm", d_h, "rms_late")),
        extras=(Extra(f"{ATTN}.sinks", (h,)),), joint=kind != WINDOW,
        pool=None if kind == WINDOW else _pool(c, d, d_h, kind, rates[kind]),
    )  # fmt: skip


def _pool(c: Config, d: Any, d_h: Any, kind: str, ratio: int) -> Pooling:
    at = f"{ATTN}.compressor"
    if kind == HEAVY:
        return _pooled(at, d, d_h, ratio, False)
    heads, narrow = c.size("index_n_heads", 64), c.size("index_head_dim", 128)
    inner = f"{at}.indexer"
    queries = Linear(f"{inner}.q_b_proj", c.size("q_lora_rank", 1024), heads * narrow)
    weigh = Linear(f"{inner}.scorer.weights_proj", d, heads)
    index = PoolIndex(_pooled(inner, d, narrow, ratio, True), queries, weigh, heads)
    return _pooled(at, d, d_h, ratio, True)._replace(chooser=index)


def _pooled(at: str, d: Any, width: Any, ratio: int, overlap: bool) -> Pooling:
    wide = width * 2 if overlap else width
    linears = Linear(f"{at}.kv_proj", d, wide), Linear(f"{at}.gate_proj", d, wide)
    norm = Norm(f"{at}.kv_norm", width, "rms_late")
    return Pooling(linears, Extra(f"{at}.position_bias", (ratio, wide)), norm, ratio, width, overlap)


def connections(n: Any, d: Any, rounds: int) -> tuple[Streams, ...]:
    """Hyper-connections around a layer's two blocks."""
    return tuple(_streams(f"{LAYER}.{x}", n, d, rounds) for x in ("attn_hc", "ffn_hc"))


def _streams(at: str, n: Any, d: Any, rounds: int = 0) -> Streams:
    """fn, base and scale of a block's hyper-connection; of the one at the end where there are no rounds."""
    join, values, scales = (".", (2 + n) * n, 3) if rounds else ("_", n, 1)
    shapes = {"fn": (values, n * d), "base": (values,), "scale": (scales,)}
    return Streams(tuple(Extra(f"{at}{join}{x}", shape, OTHER) for x, shape in shapes.items()), n, d, rounds)
