"""LongCat-Flash: layers of two attentions and two MLPs, and experts beside the first MLP, some of them without weights.

The two halves of a layer are two groups here: what the experts put out is added after the first half already, which
costs the same. Source: transformers 5.24, models/longcat_flash/modeling_longcat_flash.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import EXPERT, ROUTER, Architecture, Extra, Layer, Linear, MoE, Norm, Weight
from estimator.families.common import gated_mlp, layer_count
from estimator.families.common_moe import decoder, expert_sizes
from estimator.families.deepseek_v2 import latent_attention

LAYER = "model.layers.{i}"
HALVES = 2
WIRING = "shortcut", "pre"


def build(c: Config) -> Architecture:
    """LongCat-Flash from its config."""
    d, h = c.size("hidden_size", 6144), c.size("num_attention_heads", 64)
    if c.raw.get("num_layers") is None and c.raw.get("num_hidden_layers") is not None:
        L: Any = c.plain("num_hidden_layers", least=HALVES) // HALVES  # the class counts attentions there
    else:
        L = c.size("num_layers", 28, letter="num_hidden_layers")
    act, d_ff = c.text("hidden_act", "silu"), c.size("ffn_hidden_size|intermediate_size", 12288)
    first = gated_mlp(f"{LAYER}.mlps.0", d, d_ff, act)
    mlps = (_experts(c, d, act, first), gated_mlp(f"{LAYER}.mlps.1", d, d_ff, act))
    layers = tuple(
        Layer(
            L, latent_attention(c, d, h, "interleaved", at=f"{LAYER}.self_attn.{i}", query_scale="parts"), mlps[i],
            (Norm(f"{LAYER}.input_layernorm.{i}", d), Norm(f"{LAYER}.post_attention_layernorm.{i}", d)),
            ("input", "pre_mlp"), wiring=WIRING[i], indices=tuple(range(layer_count(c, L))),
        )
        for i in range(HALVES)
    )  # fmt: skip
    moe = mlps[0]
    bias = Weight(f"{LAYER}.mlp.router.e_score_correction_bias", (moe.num + moe.idle,), L, layers=layers[0].indices)
    return decoder(c, layers, d, L, 131072, 131072, buffers=(bias,))


def _experts(c: Config, d: Any, act: str, beside: Any) -> MoE:
    idle = c.plain("zero_expert_num", 256)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 512, 12, chosen="moe_topk|num_experts_per_tok")
    if k > E:
        raise InputError(f"{c.where}: moe_topk={int(k)} is more than the {int(E)} experts")
    width, at = c.size("expert_ffn_hidden_size|moe_intermediate_size", 2048), f"{LAYER}.mlp"
    if idle:
        c.notes.append(f"of {int(k)} chosen experts, {idle} of {int(E) + idle} have no weights: taken as chosen evenly")
    return MoE(
        experts=(
            Extra(f"{at}.experts.gate_up_proj", (E + idle, 2 * width, d), EXPERT),
            Extra(f"{at}.experts.down_proj", (E, d, width), EXPERT),
        ),
        router=(Linear(f"{at}.router.classifier", d, E + idle, c.flag("router_bias", False), role=ROUTER),),
        num=E, per_token=k, width=width, d=d, act=act, shared=beside, routing="softmax_fp32", idle=idle,
    )  # fmt: skip
