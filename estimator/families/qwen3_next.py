"""Qwen3-Next: three gated delta-net layers to one gated attention layer, each followed by experts and a shared one.

Source: transformers 5, models/qwen3_next/modeling_qwen3_next.py and configuration_qwen3_next.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Classes, Extra, Layer, Linear, Norm, StateSpace
from estimator.families.common import FULL
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import (
    SSM,
    attention_sizes,
    decoder,
    expert_sizes,
    layer_types,
    pattern,
    pre_norms,
    rotary_dim,
    sparse_layers,
)
from estimator.families.qwen2_moe import shared_experts
from estimator.inventory import CONV

LAYER = "model.layers.{i}"
CHUNK = 64  # tokens the chunked delta rule takes at a time (torch_chunk_gated_delta_rule's chunk_size)


GGUF = {"qwen3_next": Gguf("qwen3next", early_norm=True)}


def delta_net(c: Config, d: Any) -> StateSpace:
    """The gated delta net: one fused projection to q, k, v, z and one to beta and the decay, a depthwise convolution
    over q, k and v, a state of [key width, value width] for each value head, a gated norm, and the output.
    """
    h_k, h_v = c.size("linear_num_key_heads", 16), c.size("linear_num_value_heads", 32)
    c.divides(h_k, h_v, "linear_num_key_heads", "linear_num_value_heads")
    d_k, d_v = c.size("linear_key_head_dim", 128), c.size("linear_value_head_dim", 128)
    kernel = c.size("linear_conv_kernel_dim", 4)
    keys, values = h_k * d_k, h_v * d_v
    at = f"{LAYER}.linear_attn"
    return StateSpace(
        kind="gated_delta",
        linears=(
            Linear(f"{at}.in_proj_qkvz", d, 2 * keys + 2 * values),
            Linear(f"{at}.in_proj_ba", d, 2 * h_v),
            Linear(f"{at}.out_proj", values, d),
        ),
        extras=(
            Extra(f"{at}.dt_bias", (h_v,)),
            Extra(f"{at}.A_log", (h_v,)),
            Extra(f"{at}.conv1d.weight", (2 * keys + values, 1, kernel), CONV),
        ),
        norms=(Norm(f"{at}.norm", d_v, "rms_gated"),),
        inner=values, state=d_k, conv_width=2 * keys + values, conv_kernel=kernel,
        sizes={
            "heads": h_v, "head_dim": d_v, "groups": h_k, "key_heads": h_k, "value_heads": h_v,
            "key_dim": d_k, "value_dim": d_v, "chunk": CHUNK, "act": c.text("hidden_act", "silu"),
        },
    )  # fmt: skip


def gated_attention(c: Config, d: Any, h: Any, h_kv: Any, d_h: Any) -> Attention:
    """Attention whose q_proj also yields a gate for the output; q/k norms; a quarter of each head rotated."""
    at, bias = f"{LAYER}.self_attn", c.flag("attention_bias", False)
    return Attention(
        projections=(
            Linear(f"{at}.q_proj", d, 2 * h * d_h, bias),
            Linear(f"{at}.k_proj", d, h_kv * d_h, bias),
            Linear(f"{at}.v_proj", d, h_kv * d_h, bias),
        ),
        out=Linear(f"{at}.o_proj", h * d_h, d, bias),
        heads=h, kv_heads=h_kv, head_dim=d_h, rope_dim=rotary_dim(c, d_h, 0.25), gate=True, rotary="joined",
        norms=(Norm(f"{at}.q_norm", d_h, "rms_plus1"), Norm(f"{at}.k_norm", d_h, "rms_plus1")),
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """Qwen3-Next from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2048, 16, 2, head_dim=256)
    L = c.size("num_hidden_layers", 48)
    E, k = expert_sizes(c, "num_experts|num_local_experts", 512, 10, least=0)
    mlps = shared_experts(c, d, E, k, 5632, 512, 512)
    mixers: dict[str, Attention | StateSpace] = {
        SSM: delta_net(c, d),
        FULL: gated_attention(c, d, h, h_kv, d_h),
    }
    interval = c.plain("full_attention_interval", 4, least=1)
    linear = "linear_attention"
    types = layer_types(c, L, (FULL, linear), lambda i: linear if (i + 1) % interval else FULL)
    sparse = sparse_layers(c, L, E)
    layers = pattern(
        c, L,
        lambda i: (SSM if types[i] == linear else FULL, sparse(i)),
        lambda kind: Layer(1, mixers[kind[0]], mlps[kind[1]], *pre_norms(LAYER, d, "rms_plus1")),
    )  # fmt: skip
    norm, classes = Norm("model.norm", d, "rms_plus1"), Classes(bare="transformer")
    return decoder(c, layers, d, L, 151936, 32768, norm=norm, classes=classes)
