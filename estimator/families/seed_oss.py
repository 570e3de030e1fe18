"""Seed-OSS: Llama's layer with biases on q, k and v and residual dropout.

Source: transformers 5, models/seed_oss/modeling_seed_oss.py and configuration_seed_oss.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Classes
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.common_gguf import Gguf

GGUF = {"seed_oss": Gguf("seed_oss")}


def build(c: Config) -> Architecture:
    """Seed-OSS from its config."""
    D = read_dims(c, 4096, 80, 27648, 155136, 64, h_kv=8, d_h=128)
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h,
        bias=c.flag("attention_bias", True), out_bias=c.flag("attention_out_bias", False),
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), c.flag("mlp_bias", False))
    return dense(
        c, D, lambda kind: attention, mlp, positions=524288,
        residual_dropout=("residual_dropout", 0.1), dropouts=("residual_dropout", "attention_dropout"),
        drops_by_call=True, classes=Classes(bare="transformer"),
    )  # fmt: skip
