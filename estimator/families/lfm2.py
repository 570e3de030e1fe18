"""LFM2, dense and with experts: short gated convolutions in most layers, attention with q/k norms in the others.

Source: transformers 5, models/lfm2 and models/lfm2_moe, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Extra, Layer, Linear, MoE, Norm, StateSpace, Weight
from estimator.families.common import FULL, gated_mlp, gqa, layer_count
from estimator.families.common_dense import head_norms
from estimator.families.common_gguf import HEADS_BY_LAYER, RESIDUAL, SIGMOID, Gguf
from estimator.families.common_moe import (
    DENSE,
    MOE,
    SSM,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    pattern,
    routed,
)
from estimator.inventory import CONV
from estimator.ops import ceil_div

LAYER = "model.layers.{i}"
FEED = f"{LAYER}.feed_forward"
NAMES = ("w1", "w3", "w2")
CONVOLUTION = "conv"
_GGUF = Gguf("lfm2", sums=(RESIDUAL, RESIDUAL), quantizer=(HEADS_BY_LAYER,))
GGUF = {"lfm2": _GGUF, "lfm2_moe": _GGUF._replace(name="lfm2moe", router=SIGMOID)}


def short_conv(c: Config, d: Any) -> StateSpace:
    """One projection to B, C and x, a depthwise convolution of B * x, C times that, and the output."""
    at, kernel, bias = f"{LAYER}.conv", c.size("conv_L_cache", 3, letter="conv_kernel"), c.flag("conv_bias", False)
    weight = Extra(f"{at}.conv.weight", (d, 1, kernel), CONV)
    return StateSpace(
        kind="short_conv",
        linears=(Linear(f"{at}.in_proj", d, 3 * d, bias), Linear(f"{at}.out_proj", d, d, bias)),
        extras=(weight, Extra(f"{at}.conv.bias", (d,), CONV)) if bias else (weight,),
        norms=(), inner=d, state=0, conv_width=d, conv_kernel=kernel,
        sizes={"heads": 1, "head_dim": d, "groups": 1, "act": ""},
    )  # fmt: skip


def width(c: Config) -> Any:
    """LFM2's MLP: two thirds of ``intermediate_size``, times a factor, rounded up, unless it may not be adjusted."""
    d_ff = c.size("block_ff_dim|intermediate_size", 12288, letter="intermediate_size")
    if not c.flag("block_auto_adjust_ff_dim", True):
        return d_ff
    d_ff = 2 * d_ff // 3
    if c.raw.get("block_ffn_dim_multiplier", 1.0) is not None:
        factor = c.number("block_ffn_dim_multiplier", 1.0)
        d_ff = d_ff if factor == 1 else int(factor * int(d_ff))
    multiple = c.plain("block_multiple_of", 256, least=1)
    return ceil_div(d_ff, multiple) * multiple


def build(c: Config) -> Architecture:
    """LFM2 from its config."""
    experts = c.raw.get("model_type") == "lfm2_moe"
    d, h, h_kv, d_h = attention_sizes(c, 2048 if experts else 2560, 32, 8)
    L = c.size("num_hidden_layers", 32)
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    norms = head_norms(d_h, names=("q_layernorm", "k_layernorm"))
    mixers: dict[str, Attention | StateSpace] = {
        SSM: short_conv(c, d),
        FULL: gqa(f"{LAYER}.self_attn", d, h, h_kv, d_h, names=names, norms=norms),
    }
    mlps, first, E = feeds(c, d, experts)
    attended = c.items("full_attn_idxs")
    kinds = layer_types(
        c, L, (FULL, CONVOLUTION), lambda i: FULL if attended is None or i in attended else CONVOLUTION
    )
    both = tuple(Norm(f"{LAYER}.{n}", d) for n in ("operator_norm", "ffn_norm"))
    layers = pattern(
        c, L,
        lambda i: (FULL if kinds[i] == FULL else SSM, MOE if first is not None and i >= first else DENSE),
        lambda kind: Layer(1, mixers[kind[0]], mlps[kind[1]], both, ("input", "pre_mlp")),
    )  # fmt: skip
    tied = c.flag("tie_embedding|tie_word_embeddings", True)
    buffers = tuple(
        Weight(f"{FEED}.expert_bias", (E,), x.times, layers=x.indices)
        for x in layers
        if isinstance(x.mlp, MoE) and c.flag("use_expert_bias", True)
    )
    c = Config({**c.raw, "tie_word_embeddings": tied}, c.traced, c.where)
    return decoder(c, layers, d, L, 65536, 128000, norm=Norm("model.embedding_norm", d), buffers=buffers)


def feeds(c: Config, d: Any, experts: bool) -> tuple[dict[str, MLP | MoE], int | None, Any]:
    """(the blocks, the first layer with experts, experts)."""
    if not experts:
        return {DENSE: gated_mlp(FEED, d, width(c), names=NAMES)}, None, 0
    layer_count(c, c.size("num_hidden_layers", 32))
    E, k = expert_sizes(c, "num_experts", 32, 4)
    mlps: dict[str, MLP | MoE] = {
        DENSE: gated_mlp(FEED, d, c.size("intermediate_size", 7168), names=NAMES),
        MOE: routed(
            FEED, d, c.size("moe_intermediate_size", 1792), E, k, "silu", routing="sigmoid", router_linear=True
        ),
    }
    return mlps, c.plain("num_dense_layers", 2), E
