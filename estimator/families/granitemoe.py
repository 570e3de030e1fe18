"""Granite MoE: routed experts on every layer; embeddings, residual branches and logits are multiplied by constants.

Source: transformers 5, models/granitemoe/modeling_granitemoe.py and configuration_granitemoe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer
from estimator.families.common import gqa
from estimator.families.common_moe import attention_sizes, decoder, expert_sizes, pre_norms, routed
from estimator.families.gguf import Gguf

LAYER = "model.layers.{i}"


GGUF = {"granitemoe": Gguf("granitemoe")}


def build(c: Config) -> Architecture:
    """Granite MoE from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, None)
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "num_local_experts|num_experts", 8, 2)
    attention = gqa(f"{LAYER}.self_attn", d, h, h_kv, d_h, bias=c.flag("attention_bias", False))
    moe = routed(
        f"{LAYER}.block_sparse_moe", d, c.size("intermediate_size", 11008), E, k,
        c.text("hidden_act", "silu"), router="router",
    )  # fmt: skip
    layer = Layer(L, attention, moe, *pre_norms(LAYER, d), residual_scale=True)
    return decoder(c, (layer,), d, L, 32000, 2048, facts={"embed_scale": True, "logit_scale": True})
