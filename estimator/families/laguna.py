"""Laguna: as many query heads as each layer's own entry says, a gate of the heads, windowed layers; the first layer
dense, then sigmoid-routed and shared experts.

Source: transformers 5, models/laguna/modeling_laguna.py and configuration_laguna.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Extra, Layer, Linear, MoE
from estimator.families.common import FULL, SLIDING, gated_mlp, gqa, layer_count, layer_groups
from estimator.families.common_dense import ATTN, LAYER, head_norms, sliding
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    mlp_types,
    pre_norms,
    routed,
)

ROTATED = {FULL: (1, 2), SLIDING: (1, 1)}  # the class's partial_rotary_factor of each kind


def build(c: Config) -> Architecture:
    """Laguna from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2048, 48, 8, head_dim=128)
    L = c.size("num_hidden_layers", 40)
    kinds, window = sliding(c, L, 512, lambda i: FULL)
    sparse, heads = mlp_types(c, L, lambda i: MOE if i else DENSE), heads_of(c, h, h_kv, L)
    E, k = expert_sizes(c, "num_experts", 256, 8)
    bias, act, at = c.flag("attention_bias", False), c.text("hidden_act", "silu"), f"{LAYER}.mlp"
    gating = c.raw.get("gating", True)

    def mixer(kind: str, n: Any) -> Attention:
        over, under = ROTATED[kind]
        return gqa(
            ATTN, d, n, h_kv, d_h, bias=bias, norms=head_norms(d_h), window=window(kind),
            rope_dim=d_h * over // under, rotary="joined",
            out_gate=Linear(f"{ATTN}.g_proj", d, n if gating in (True, "per-head") else n * d_h),
        )  # fmt: skip

    width = c.size("shared_expert_intermediate_size", 512)
    moe = routed(
        at, d, c.size("moe_intermediate_size", 512), E, k, act, routing="sigmoid_groups", shared_first=True,
        shared=gated_mlp(f"{at}.shared_experts", d, width, act),
    )  # fmt: skip
    correction = Extra(f"{at}.gate.e_score_correction_bias", (E,))
    mlps: dict[str, MLP | MoE] = {
        MOE: moe._replace(router=(*moe.router, correction)),
        DENSE: gated_mlp(at, d, c.size("intermediate_size", 8192), act),
    }
    each = [(kinds[i], sparse(i), heads[i]) for i in range(layer_count(c, L))]
    layers = tuple(
        Layer(times, mixer(kind, n), mlps[what], *pre_norms(LAYER, d), indices=at_)
        for (kind, what, n), times, at_ in layer_groups(each, L, c.traced)
    )
    return decoder(c, layers, d, L, 100352, 131072)


def heads_of(c: Config, h: Any, h_kv: Any, L: Any) -> list[Any]:
    """The query heads of every layer."""
    n = layer_count(c, L)
    given = c.items("num_attention_heads_per_layer", n)
    if given is None:
        return [h] * n
    for x in given:
        if isinstance(x, bool) or not isinstance(x, int) or x < 1 or x % int(h_kv):
            what = f"num_attention_heads_per_layer holds {str(x)[:40]!r}"
            raise InputError(f"{c.where}: {what}, no multiple of {int(h_kv)}")
    return given if len(set(given)) > 1 or given[0] != int(h) else [h] * n
