"""MiMo-V2-Flash: five windowed layers to a full one, with twice the key/value heads and a sink a head; values narrower
than keys; the first layer dense, then sigmoid-routed experts.

Source: transformers 5, models/mimo_v2_flash/modeling_mimo_v2_flash.py and configuration_mimo_v2_flash.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Extra, Layer, Linear, MoE
from estimator.families.common import FULL, SLIDING, gated_mlp, layer_kinds, rotary_width, window_size
from estimator.families.common_dense import ATTN, LAYER
from estimator.families.common_gguf import SIGMOID, Gguf
from estimator.families.common_moe import (
    DENSE,
    MOE,
    attention_sizes,
    decoder,
    expert_sizes,
    mlp_types,
    pattern,
    pre_norms,
    routed,
)
from estimator.families.deepseek_v3 import correction_bias

PERIOD, ROTATED = 6, 0.334
GGUF = {"mimo_v2_flash": Gguf("mimo2", windows=True, router=SIGMOID)}


def mixer(c: Config, kind: str, d: Any, h: Any, kv: Any, d_h: Any, window: Any) -> Attention:
    """Full or windowed attention; ``kv``: the key/value heads of the full one."""
    d_v, bias, sliding = c.size("v_head_dim", 128), c.flag("attention_bias", False), kind == SLIDING
    h_kv = 2 * kv if sliding else kv
    return Attention(
        projections=(
            Linear(f"{ATTN}.q_proj", d, h * d_h, bias),
            Linear(f"{ATTN}.k_proj", d, h_kv * d_h, bias),
            Linear(f"{ATTN}.v_proj", d, h_kv * d_v, bias),
        ),
        out=Linear(f"{ATTN}.o_proj", h * d_v, d),
        heads=h, kv_heads=h_kv, head_dim=d_h, v_head_dim=d_v, rope_dim=rotary_width(c, d_h, ROTATED), rotary="joined",
        window=window if sliding else None, sdpa=False, sinks=sliding,
        extras=(Extra(f"{ATTN}.sinks", (h,)),) if sliding else (), form="sinks" if sliding else "interface",
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """MiMo-V2-Flash from its config; ``sliding_window_size`` is the published files' spelling, one less."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 64, 4, head_dim=192)
    L = c.size("num_hidden_layers", 48)
    size = c.raw.get("sliding_window_size")
    window = window_size(c, 129) if size is None else c.size("sliding_window_size", letter="sliding_window") + 1
    kinds = layer_kinds(c, L, lambda i: SLIDING if i and (i + 1) % PERIOD else FULL)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 256, 8)
    act, at = c.text("hidden_act", "silu"), f"{LAYER}.mlp"
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(at, d, c.size("moe_intermediate_size", 2048), E, k, act, routing="sigmoid_groups"),
        DENSE: gated_mlp(at, d, c.size("intermediate_size", 16384), act),
    }
    sparse = mlp_types(c, L, lambda i: MOE if i else DENSE)
    layers = pattern(
        c, L,
        lambda i: (kinds[i], sparse(i)),
        lambda kind: Layer(1, mixer(c, kind[0], d, h, h_kv, d_h, window), mlps[kind[1]], *pre_norms(LAYER, d)),
    )  # fmt: skip
    return decoder(c, layers, d, L, 152576, 131072, buffers=correction_bias(layers, E))
