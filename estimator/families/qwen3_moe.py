"""Qwen3-MoE: q/k norms a head, routed experts without a shared one, dense MLPs on the layers left out.

Source: transformers 5, models/qwen3_moe/modeling_qwen3_moe.py and configuration_qwen3_moe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Classes, Layer, MoE, Norm
from estimator.families.common import FULL, gated_mlp, gqa
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    optional_size,
    pattern,
    pre_norms,
    routed,
    sparse_layers,
)

LAYER = "model.layers.{i}"


GGUF = {"qwen3_moe": Gguf("qwen3moe")}


def build(c: Config) -> Architecture:
    """Qwen3-MoE from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2048, 32, 4)
    L = c.size("num_hidden_layers", 24)
    E, k = expert_sizes(c, "num_experts|num_local_experts", 128, 8, least=0)
    act, attn = c.text("hidden_act", "silu"), f"{LAYER}.self_attn"
    attention = gqa(
        attn, d, h, h_kv, d_h, bias=c.flag("attention_bias", False),
        window=optional_size(c, "sliding_window", 4096) if c.flag("use_sliding_window", False) else None,
        norms=(Norm(f"{attn}.q_norm", d_h), Norm(f"{attn}.k_norm", d_h)),
    )  # fmt: skip
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(
            f"{LAYER}.mlp", d, c.size("moe_intermediate_size", 768), E, k, act, normed=c.flag("norm_topk_prob", False)
        ),
        DENSE: gated_mlp(f"{LAYER}.mlp", d, c.size("intermediate_size", 6144), act),
    }
    sparse = sparse_layers(c, L, E)
    layers = pattern(
        c, L,
        lambda i: (FULL, sparse(i)),
        lambda kind: Layer(1, attention, mlps[kind[1]], *pre_norms(LAYER, d)),
    )  # fmt: skip
    return decoder(c, layers, d, L, 151936, 32768, classes=Classes(bare="transformer"))
