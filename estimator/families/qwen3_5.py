"""Qwen3.5's text models, dense and with experts: Qwen3-Next's layers, the gated delta net with a matrix for each of its
inputs; experts in every layer, or in none.

Source: transformers 5, models/qwen3_5 and models/qwen3_5_moe, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Layer, Linear, MoE, Norm, StateSpace
from estimator.families.common import FULL, gated_mlp
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import (
    DENSE,
    MOE,
    SSM,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    pattern,
    pre_norms,
)
from estimator.families.qwen2_moe import shared_experts
from estimator.families.qwen3_next import delta_net, gated_attention

LAYER = "model.layers.{i}"
LINEAR = "linear_attention"
GGUF = {"qwen3_5_text": Gguf("qwen35", positions=4), "qwen3_5_moe_text": Gguf("qwen35moe", positions=4)}


def separate(net: StateSpace, d: Any) -> StateSpace:
    """The delta net with one matrix to q, k and v, one to z, and one each to beta and the decay."""
    at, values, heads = f"{LAYER}.linear_attn", net.inner, net.sizes["value_heads"]
    return net._replace(
        linears=(
            Linear(f"{at}.in_proj_qkv", d, net.conv_width),
            Linear(f"{at}.in_proj_z", d, values),
            Linear(f"{at}.in_proj_b", d, heads),
            Linear(f"{at}.in_proj_a", d, heads),
            net.linears[-1],
        )
    )


def build(c: Config) -> Architecture:
    """A Qwen3.5 text model from its config."""
    experts = c.raw.get("model_type") == "qwen3_5_moe_text"
    d, h, h_kv, d_h = attention_sizes(c, *((2048, 16, 2) if experts else (4096, 16, 4)), head_dim=256)
    L = c.size("num_hidden_layers", 40 if experts else 32)
    mixers: dict[str, Attention | StateSpace] = {
        SSM: separate(delta_net(c, d), d),
        FULL: gated_attention(c, d, h, h_kv, d_h),
    }
    what, mlp = feed_forward(c, d, experts)
    interval = c.plain("full_attention_interval", 4, least=1)
    types = layer_types(c, L, (FULL, LINEAR), lambda i: LINEAR if (i + 1) % interval else FULL)
    layers = pattern(
        c, L,
        lambda i: (SSM if types[i] == LINEAR else FULL, what),
        lambda kind: Layer(1, mixers[kind[0]], mlp, *pre_norms(LAYER, d, "rms_plus1")),
    )  # fmt: skip
    return decoder(c, layers, d, L, 248320, 32768, norm=Norm("model.norm", d, "rms_plus1"))


def feed_forward(c: Config, d: Any, experts: bool) -> tuple[str, MLP | MoE]:
    """(MOE or DENSE, the block): experts beside a gated shared one, or an MLP."""
    if not experts:
        return DENSE, gated_mlp(f"{LAYER}.mlp", d, c.size("intermediate_size", 12288), c.text("hidden_act", "silu"))
    E, k = expert_sizes(c, "num_experts|num_local_experts", 256, 8)
    return MOE, shared_experts(c, d, E, k, 1, 512, 512)[MOE]
