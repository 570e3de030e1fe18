"""Phi-3.5-MoE: Mixtral with LayerNorms, biases where the config says so, and a head that may have one.

Source: transformers 5, models/phimoe/modeling_phimoe.py and configuration_phimoe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Norm
from estimator.families.common import gqa
from estimator.families.common_gguf import BRANCH, RESIDUAL, Gguf
from estimator.families.common_moe import (
    attention_sizes,
    decoder,
    expert_sizes,
    optional_size,
    pre_norms,
    routed,
)

LAYER = "model.layers.{i}"


GGUF = {"phimoe": Gguf("phimoe", scaled_queries=True, sums=(BRANCH, RESIDUAL), rms=True)}


def build(c: Config) -> Architecture:
    """Phi-3.5-MoE from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, 8)
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 16, 2)
    attention = gqa(
        f"{LAYER}.self_attn", d, h, h_kv, d_h,
        bias=c.flag("attention_bias", False), window=optional_size(c, "sliding_window"),
    )  # fmt: skip
    moe = routed(
        f"{LAYER}.mlp", d, c.size("intermediate_size", 6400), E, k, c.text("hidden_act", "silu"),
        router="router", router_linear=True, routing="sparse_mixer",
        jitter=2 if c.number("input_jitter_noise", 0.0) > 0 else 0,
    )  # fmt: skip
    return decoder(
        c, (Layer(L, attention, moe, *pre_norms(LAYER, d, "layer")),), d, L, 32064, 131072,
        norm=Norm("model.norm", d, "layer", True), head_bias=c.flag("lm_head_bias", False),
    )  # fmt: skip
