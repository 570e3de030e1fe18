"""OLMoE: routed experts on every layer, and RMSNorms over the whole query and key vectors.

Source: transformers 5, models/olmoe/modeling_olmoe.py and configuration_olmoe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Norm
from estimator.families.common import gqa
from estimator.families.common_gguf import Gguf, Router
from estimator.families.common_moe import attention_sizes, decoder, expert_sizes, pre_norms, routed

LAYER = "model.layers.{i}"


GGUF = {"olmoe": Gguf("olmoe", router=Router(normed=False))}


def build(c: Config) -> Architecture:
    """OLMoE from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2048, 16, None)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    L = c.size("num_hidden_layers", 16)
    E, k = expert_sizes(c, "num_experts|num_local_experts", 64, 8)
    attn = f"{LAYER}.self_attn"
    attention = gqa(
        attn, d, h, h_kv, d_h, bias=c.flag("attention_bias", False),
        norms=(Norm(f"{attn}.q_norm", d), Norm(f"{attn}.k_norm", d // h * h_kv)),
    )  # fmt: skip
    act, normed = c.text("hidden_act", "silu"), c.flag("norm_topk_prob", False)
    moe = routed(f"{LAYER}.mlp", d, c.size("intermediate_size", 2048), E, k, act, normed=normed)
    facts = {"clip_qkv": True} if c.raw.get("clip_qkv") is not None else {}
    return decoder(c, (Layer(L, attention, moe, *pre_norms(LAYER, d)),), d, L, 50304, 4096, facts=facts)
