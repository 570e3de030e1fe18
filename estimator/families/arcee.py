"""Arcee: Llama's layer with a plain MLP whose activation is a squared ReLU.

Source: transformers 5, models/arcee/modeling_arcee.py and configuration_arcee.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Classes
from estimator.families.common import gqa, plain_mlp, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.common_gguf import Gguf

GGUF = {"arcee": Gguf("arcee")}


def build(c: Config) -> Architecture:
    """Arcee from its config."""
    D = read_dims(c, 2560, 32, 18432, 32000, 32)
    attention = gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False))
    act, bias = c.text("hidden_act", "relu2"), c.flag("mlp_bias", False)
    mlp = plain_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act, bias, names=("up_proj", "down_proj"))
    return dense(c, D, lambda kind: attention, mlp, positions=4096, classes=Classes(bare="transformer"))
