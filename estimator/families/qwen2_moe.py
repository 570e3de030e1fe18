"""Qwen1.5-MoE and Qwen2-MoE: routed experts beside one gated shared expert, dense MLPs on the layers left out.

Source: transformers 5, models/qwen2_moe/modeling_qwen2_moe.py and configuration_qwen2_moe.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Layer, Linear, MoE
from estimator.families.common import FULL, SLIDING, gated_mlp, gqa
from estimator.families.common_gguf import Gguf, Router
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    optional_size,
    pattern,
    pre_norms,
    routed,
    sparse_layers,
)

LAYER = "model.layers.{i}"


GGUF = {"qwen2_moe": Gguf("qwen2moe", router=Router(normed=False, opened="division"))}


def shared_experts(
    c: Config, d: Any, E: Any, k: Any, d_ff: int, d_moe: int, d_sh: int, normed: bool = True
) -> dict[str, MLP | MoE]:
    """The two feed-forward blocks: experts beside a gated shared one, and dense; widths, and whether the weights of the
    chosen are divided by their sum, are the class's defaults."""
    act = c.text("hidden_act", "silu")
    mlp = f"{LAYER}.mlp"
    shared = gated_mlp(f"{mlp}.shared_expert", d, c.size("shared_expert_intermediate_size", d_sh), act)
    return {
        MOE: routed(
            mlp, d, c.size("moe_intermediate_size", d_moe), E, k, act,
            shared=shared, shared_gate=Linear(f"{mlp}.shared_expert_gate", d, 1),
            normed=c.flag("norm_topk_prob", normed),
        ),
        DENSE: gated_mlp(mlp, d, c.size("intermediate_size", d_ff), act),
    }  # fmt: skip


def build(c: Config) -> Architecture:
    """Qwen2-MoE from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2048, 16, 16)
    L = c.size("num_hidden_layers", 24)
    E, k = expert_sizes(c, "num_experts|num_local_experts", 60, 4, least=0)
    mlps = shared_experts(c, d, E, k, 5632, 1408, 5632, False)
    windowed = c.flag("use_sliding_window", False)
    window = optional_size(c, "sliding_window", 4096) if windowed else None
    below = c.plain("max_window_layers", 28)
    types = layer_types(c, L, (FULL, SLIDING), lambda i: SLIDING if windowed and (i + 1) % 2 and i < below else FULL)
    mixers = {
        t: gqa(
            f"{LAYER}.self_attn", d, h, h_kv, d_h, bias=c.flag("qkv_bias", True), out_bias=False,
            window=window if t == SLIDING else None,
        )
        for t in (FULL, SLIDING)
    }  # fmt: skip
    sparse = sparse_layers(c, L, E)
    layers = pattern(
        c, L,
        lambda i: (types[i], sparse(i)),
        lambda kind: Layer(1, mixers[kind[0]], mlps[kind[1]], *pre_norms(LAYER, d)),
    )  # fmt: skip
    return decoder(c, layers, d, L, 151936, 32768)
