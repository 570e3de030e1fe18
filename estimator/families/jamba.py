"""Jamba: Mamba layers with attention every ``attn_layer_period``, experts every ``expert_layer_period``; no positions.

Source: transformers 5, models/jamba/modeling_jamba.py and configuration_jamba.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Layer, MoE, Norm, StateSpace
from estimator.families.common import FULL, gated_mlp, gqa
from estimator.families.common_gguf import HEADS_BY_LAYER, RESIDUAL, Gguf, Router
from estimator.families.common_moe import (
    DENSE,
    MOE,
    SSM,
    attention_sizes,
    decoder,
    expert_sizes,
    pattern,
    pre_norms,
    routed,
)
from estimator.families.common_ssm import dt_rank, selective

LAYER = "model.layers.{i}"


GGUF = {"jamba": Gguf("jamba", quantizer=(HEADS_BY_LAYER,), sums=(RESIDUAL, RESIDUAL), router=Router(normed=False))}


def periodic(c: Config, what: str, period: int, offset: int) -> tuple[int, int]:
    """(period, offset) of the layers that are ``what``; InputError unless offset < period."""
    every, at = c.plain(f"{what}_layer_period", period, least=1), c.plain(f"{what}_layer_offset", offset)
    if at >= every:
        raise InputError(f"{c.where}: {what}_layer_offset={at} must be smaller than {what}_layer_period={every}")
    return every, at


def mamba_mixer(c: Config, d: Any) -> StateSpace:
    """Mamba 1's mixer with RMSNorms on the time step, B and C."""
    at, inner = f"{LAYER}.mamba", c.plain("mamba_expand", 2, least=1) * d
    state = c.size("mamba_d_state", 16, letter="state_size")
    rank = dt_rank(c, "mamba_dt_rank", d)
    return selective(
        at, d, inner, state, rank, c.size("mamba_d_conv", 4),
        bias=c.flag("mamba_proj_bias", False), conv_bias=c.flag("mamba_conv_bias", True),
        act=c.text("hidden_act", "silu"),
        norms=tuple(Norm(f"{at}.{n}_layernorm", w) for n, w in (("dt", rank), ("b", state), ("c", state))),
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """Jamba from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 4096, 32, 8)
    L = c.size("num_hidden_layers", 32)
    E, k = expert_sizes(c, "num_experts|num_local_experts", 16, 2)
    d_ff, act = c.size("intermediate_size", 14336), c.text("hidden_act", "silu")
    mixers: dict[str, Attention | StateSpace] = {
        SSM: mamba_mixer(c, d),
        FULL: gqa(f"{LAYER}.self_attn", d, h, h_kv, d_h, position="none"),
    }
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(f"{LAYER}.feed_forward", d, d_ff, E, k, act, router="router", normed=False),
        DENSE: gated_mlp(f"{LAYER}.feed_forward", d, d_ff, act),
    }
    (a_every, a_at), (e_every, e_at) = periodic(c, "attn", 8, 4), periodic(c, "expert", 2, 1)
    layers = pattern(
        c, L,
        lambda i: (FULL if i % a_every == a_at else SSM, MOE if E > 1 and i % e_every == e_at else DENSE),
        lambda kind: Layer(
            1, mixers[kind[0]], mlps[kind[1]], *pre_norms(LAYER, d, second="pre_ff_layernorm")
        ),
    )  # fmt: skip
    return decoder(c, layers, d, L, 65536, 262144, norm=Norm("model.final_layernorm", d))
