"""Mixtral: Llama's layer with routed experts in place of the MLP, a sliding window on every layer or on none.

Source: transformers 5, models/mixtral/modeling_mixtral.py and configuration_mixtral.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer
from estimator.families.common import gqa
from estimator.families.common_gguf import SEVENTY_GROUPED, Gguf
from estimator.families.common_moe import (
    attention_sizes,
    decoder,
    expert_sizes,
    optional_size,
    pre_norms,
    routed,
)

LAYER = "model.layers.{i}"


GGUF = {"mixtral": Gguf("llama", quantizer=(SEVENTY_GROUPED,))}


def build(c: Config) -> Architecture:
    """Mixtral from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, 8)
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 8, 2)
    attention = gqa(f"{LAYER}.self_attn", d, h, h_kv, d_h, window=optional_size(c, "sliding_window"))
    act = c.text("hidden_act", "silu")
    moe = routed(f"{LAYER}.mlp", d, c.size("intermediate_size", 14336), E, k, act, routing="softmax_kept")
    return decoder(c, (Layer(L, attention, moe, *pre_norms(LAYER, d)),), d, L, 32000, 131072)
