"""GLM-4.5: the first layers dense, then routed and shared experts; half of each head rotated; q/k norms optional.

Source: transformers 5, models/glm4_moe/modeling_glm4_moe.py and configuration_glm4_moe.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Layer, MoE, Norm
from estimator.families.common import FULL, gated_mlp, gqa
from estimator.families.common_gguf import Gguf, Router, said_of_experts
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    pattern,
    pre_norms,
    rotary_dim,
    routed,
)
from estimator.families.deepseek_v3 import correction_bias

LAYER = "model.layers.{i}"


GGUF = {"glm4_moe": Gguf("glm4moe", router=Router("sigmoid", normed=False, corrected=True))}


def build(c: Config) -> Architecture:
    """GLM-4.5 from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 96, 8, whole=False)  # the class's own defaults do not divide
    L = c.size("num_hidden_layers", 46)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 128, 8)
    d_moe = c.size("moe_intermediate_size", 1408)
    act = c.text("hidden_act", "silu")
    attn = f"{LAYER}.self_attn"
    norms = (Norm(f"{attn}.q_norm", d_h), Norm(f"{attn}.k_norm", d_h)) if c.flag("use_qk_norm", False) else ()
    attention = gqa(
        attn, d, h, h_kv, d_h, bias=c.flag("attention_bias", False), out_bias=False,
        rope_dim=rotary_dim(c, d_h, 0.5), rotary="joined", norms=norms,
    )  # fmt: skip
    n_shared = c.size("n_shared_experts", 1, least=0)
    shared = gated_mlp(f"{LAYER}.mlp.shared_experts", d, n_shared * d_moe, act)
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(f"{LAYER}.mlp", d, d_moe, E, k, act, shared=shared, routing="sigmoid_groups"),
        DENSE: gated_mlp(f"{LAYER}.mlp", d, c.size("intermediate_size", 10944), act),
    }
    first = c.plain("first_k_dense_replace", 1)
    layers = pattern(
        c, L,
        lambda i: (FULL, MOE if i >= first else DENSE),
        lambda kind: Layer(1, attention, mlps[kind[1]], *pre_norms(LAYER, d)),
    )  # fmt: skip
    return decoder(c, layers, d, L, 151552, 131072, buffers=correction_bias(layers, E), facts=said_of_experts(c))
