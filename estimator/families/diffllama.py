"""DiffLlama: a Llama whose heads are taken in pairs, one softmax less a learned part of the other.

Source: transformers 5.24, models/diffllama/modeling_diffllama.py and configuration_diffllama.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Extra, Norm
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense

LAMBDAS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


def build(c: Config) -> Architecture:
    """DiffLlama from its config."""
    D = read_dims(c, 2048, 32, 8192, 32000, 16)
    if D.h_kv % 2:
        raise InputError(f"{c.where}: num_key_value_heads must be even, got {int(D.h_kv)}: heads are taken in pairs")
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), form="differential",
        extras=tuple(Extra(f"{ATTN}.{name}", (D.d_h,)) for name in LAMBDAS),
        out_norm=Norm(f"{ATTN}.groupnorm", 2 * D.d_h, affine=False),
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    return dense(c, D, lambda kind: attention, mlp, positions=2048)
