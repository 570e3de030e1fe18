"""MiniMax-Text-01: lightning attention in every second layer, grouped-query attention in the others, and experts.

Source: transformers 5, models/minimax/modeling_minimax.py and configuration_minimax.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Layer, Linear, Norm, StateSpace
from estimator.families.common import FULL, gqa
from estimator.families.common_dense import ATTN, LAYER
from estimator.families.common_moe import (
    MOE,
    SSM,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    pattern,
    pre_norms,
    routed,
)

LINEAR = "linear_attention"


def linear_attention(c: Config, d: Any, h: Any, d_h: Any) -> StateSpace:
    """One projection to q, k and v, a state of [d_h, d_h] a head, kept in the cache's width, a norm and a gate."""
    inner = h * d_h
    return StateSpace(
        kind="lightning",
        linears=(
            Linear(f"{ATTN}.qkv_proj", d, 3 * inner),
            Linear(f"{ATTN}.output_gate", d, inner),
            Linear(f"{ATTN}.out_proj", inner, d),
        ),
        extras=(), norms=(Norm(f"{ATTN}.norm", inner),), inner=inner, state=0, conv_width=inner, conv_kernel=d_h,
        sizes={
            "heads": h, "head_dim": d_h, "groups": 1, "chunk": c.plain("block_size", 256, least=1),
            "act": c.text("hidden_act", "silu"),
        },
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """MiniMax from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, 8)
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 8, 2)
    act = c.text("hidden_act", "silu")
    moe = routed(f"{LAYER}.mlp", d, c.size("intermediate_size", 14336), E, k, act, routing="softmax_kept")
    mixers: dict[str, Attention | StateSpace] = {
        SSM: linear_attention(c, d, h, d_h),
        FULL: gqa(ATTN, d, h, h_kv, d_h),
    }
    kinds = layer_types(c, L, (FULL, LINEAR), lambda i: FULL if (i + 1) % 2 else LINEAR)
    layers = pattern(
        c, L,
        lambda i: (SSM if kinds[i] == LINEAR else FULL, MOE),
        lambda kind: Layer(1, mixers[kind[0]], moe, *pre_norms(LAYER, d), residual_scale=True),
    )  # fmt: skip
    return decoder(c, layers, d, L, 32000, 131072)
