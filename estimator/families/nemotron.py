"""Nemotron and Minitron: LayerNorms that scale by 1 + weight, half of each head rotated, a squared ReLU.

Source: transformers 5, models/nemotron/modeling_nemotron.py and configuration_nemotron.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common import gqa, plain_mlp, read_dims, rotary_width
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.common_gguf import Gguf

GGUF = {"nemotron": Gguf("nemotron")}


def build(c: Config) -> Architecture:
    """Nemotron from its config."""
    D = read_dims(c, 6144, 48, 24576, 256000, 32)
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False),
        rope_dim=rotary_width(c, D.d_h, 0.5), rotary="joined",
    )  # fmt: skip
    act, bias = c.text("hidden_act", "relu2"), c.flag("mlp_bias", False)
    mlp = plain_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act, bias, names=("up_proj", "down_proj"))
    return dense(c, D, lambda kind: attention, mlp, positions=4096, norm="layer_plus1")
