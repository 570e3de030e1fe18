"""Kimi Linear: a delta rule that decays every channel by itself in most layers, latent attention without positions in
the others, and DeepSeek-V3's experts.

Source: transformers 5.24, models/kimi_linear/modeling_kimi_linear.py and configuration_kimi_linear.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Extra, Layer, Linear, MoE, Norm, StateSpace
from estimator.families.common import FULL, gated_mlp, layer_count
from estimator.families.common_dense import ATTN, LAYER
from estimator.families.common_gguf import HEADS_BY_LAYER, SIGMOID, Gguf, said_of_experts
from estimator.families.common_moe import (
    DENSE,
    MOE,
    SSM,
    decoder,
    expert_sizes,
    layer_types,
    mlp_types,
    pattern,
    pre_norms,
    routed,
)
from estimator.families.common_ssm import convolution
from estimator.families.deepseek_v2 import latent_attention
from estimator.families.deepseek_v3 import correction_bias

GGUF = {"kimi_linear": Gguf("kimi-linear", early_norm=True, quantizer=(HEADS_BY_LAYER,), router=SIGMOID)}
LINEAR = "linear_attention"
CHUNK = 64  # tokens of chunk_kimi_delta_attention


def build(c: Config) -> Architecture:
    """Kimi Linear from its config."""
    d, h = c.size("hidden_size", 2304), c.size("num_attention_heads", 32)
    L, act = c.size("num_hidden_layers", 27), c.text("hidden_act", "silu")
    chosen = "num_experts_per_tok|num_experts_per_token"
    E, k = expert_sizes(c, "num_local_experts|num_experts", 256, 8, chosen=chosen)
    width, at = c.size("moe_intermediate_size", 1024), f"{LAYER}.mlp"
    beside = gated_mlp(f"{at}.shared_experts", d, c.plain("n_shared_experts|num_shared_experts", 1) * width, act)
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(at, d, width, E, k, act, routing="sigmoid_groups", shared=beside),
        DENSE: gated_mlp(at, d, c.size("intermediate_size", 9216), act),
    }
    mixers: dict[str, Attention | StateSpace] = {
        FULL: latent_attention(c, d, h, "none", (None, 512, 128, 64, 128), position="none"),
        SSM: delta_rule(c, d, act),
    }
    kinds, dense = _kinds(c, L), c.plain("first_k_dense_replace", 1)
    sparse = mlp_types(c, L, lambda i: DENSE if i < dense else MOE)
    layers = pattern(
        c, L,
        lambda i: (FULL if kinds[i] == FULL else SSM, sparse(i)),
        lambda kind: Layer(1, mixers[kind[0]], mlps[kind[1]], *pre_norms(LAYER, d)),
    )  # fmt: skip
    positions = c.plain("max_position_embeddings|model_max_length", 1048576)
    bias, facts = correction_bias(layers, E), said_of_experts(c, None)
    made = decoder(c, layers, d, L, 163840, positions, buffers=bias, facts=facts)
    return made._replace(max_positions=positions)


def delta_rule(c: Config, d: Any, act: str, bounded: bool = False) -> StateSpace:
    """q, k and v through one convolution, a decay of every channel out of a rank, a beta a head, a gated norm.

    bounded: the decay has a lower bound (GLM-5.3-Flash).
    """
    raw = c.raw.get("linear_attn_config")
    older = Config(raw if isinstance(raw, dict) else {}, where=f"{c.where}: linear_attn_config")
    h = older.size("num_heads", c.size("linear_num_heads", 32))
    d_h = older.size("head_dim", c.size("linear_head_dim", 128))
    kernel = older.size("short_conv_kernel_size", c.size("linear_conv_kernel_dim", 4))
    inner, gate = h * d_h, f"{ATTN}.forget_gate"
    return StateSpace(
        kind="channel_delta",
        linears=(
            *(Linear(f"{ATTN}.{x}_proj", d, inner) for x in "qkv"),
            Linear(f"{gate}.f_a_proj", d, d_h), Linear(f"{gate}.f_b_proj", d_h, inner),
            Linear(f"{ATTN}.b_proj", d, h),
            Linear(f"{ATTN}.g_a_proj", d, d_h), Linear(f"{ATTN}.g_b_proj", d_h, inner),
            Linear(f"{ATTN}.o_proj", inner, d),
        ),
        extras=(
            Extra(f"{gate}.dt_bias", (inner,)), Extra(f"{gate}.A_log", (h,) if bounded else (1, 1, h, 1)),
            *convolution(ATTN, 3 * inner, kernel, False),
        ),
        norms=(Norm(f"{ATTN}.o_norm", d_h, "rms_gated"),), inner=inner, state=d_h, conv_width=3 * inner,
        conv_kernel=kernel,
        sizes={
            "heads": h, "head_dim": d_h, "groups": h, "key_heads": h, "value_heads": h, "key_dim": d_h,
            "value_dim": d_h, "chunk": CHUNK, "act": act, "bounded": bounded,
        },
    )  # fmt: skip


def _kinds(c: Config, L: Any) -> list[str]:
    """The mixer of every layer: ``layer_types``, published files' two lists (which count from 1), or every fourth."""
    n, raw = layer_count(c, L), c.raw.get("linear_attn_config")
    older = raw if isinstance(raw, dict) else {}
    if c.raw.get("layer_types") is None and "full_attn_layers" in older and "kda_layers" in older:
        full, linear = older["full_attn_layers"], older["kda_layers"]
        named = [*full, *linear] if isinstance(full, list) and isinstance(linear, list) else []
        if not all(isinstance(x, int | float) for x in named) or sorted(named) != [*range(1, n + 1)]:
            raise InputError(f"{c.where}: full_attn_layers and kda_layers must name each of the layers 1 to {n} once")
        attends = set(full)
        return [FULL if i + 1 in attends else LINEAR for i in range(n)]
    return layer_types(c, L, (FULL, LINEAR), lambda i: FULL if i and i % 4 == 0 else LINEAR)
