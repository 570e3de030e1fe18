"""JetMoE: experts in the MLP, and experts for queries and outputs over shared keys and values.

Source: transformers 5.24, models/jetmoe/modeling_jetmoe.py and configuration_jetmoe.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import EXPERT, OTHER, ROUTER, Architecture, Attention, Extra, Layer, Linear, MoE
from estimator.families.common_moe import decoder, expert_sizes, pre_norms

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attention"


def experts(at: str, d: Any, up: Any, width: Any, E: Any, k: Any, role: str, **fields: Any) -> MoE:
    """E experts under ``at``: [d -> up] and [width -> d], a bias behind them all; ``role``: the bias's."""
    return MoE(
        experts=(
            Extra(f"{at}.input_linear.weight", (E, up, d), EXPERT),
            Extra(f"{at}.output_linear.weight", (E, d, width), EXPERT),
        ),
        router=(Linear(f"{at}.router.layer", d, E, role=ROUTER), Extra(f"{at}.bias", (d,), role)),
        num=E, per_token=k, width=width, d=d, router_linear=True, **fields,
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """JetMoE from its config."""
    d, L = c.size("hidden_size", 2048), c.size("num_hidden_layers", 12)
    h_kv, d_h = c.size("num_key_value_heads", 16), c.size("kv_channels|head_dim", 128, letter="head_dim")
    E, k = expert_sizes(c, "num_local_experts", 8, 2)
    wide, width = h_kv * d_h, c.size("intermediate_size", 5632)
    queries = experts(f"{ATTN}.experts", d, wide, wide, E, k, EXPERT, gated=False)
    attention = Attention(
        projections=(Linear(f"{ATTN}.kv_proj", d, 2 * wide),), out=Linear(f"{ATTN}.experts.output_linear", wide, d),
        heads=h_kv * k, kv_heads=h_kv, head_dim=d_h, rope_dim=d_h, form="routed", routed=queries,
    )  # fmt: skip
    mlp = experts(f"{LAYER}.mlp", d, 2 * width, width, E, k, OTHER, act=c.text("activation_function", "silu"))
    layer = Layer(L, attention, mlp, *pre_norms(LAYER, d))
    return decoder(c, (layer,), d, L, 32000, 4096, tied=True)
