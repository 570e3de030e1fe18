"""Jais 2: LayerNorms, biases everywhere, and a plain MLP whose activation is a squared ReLU.

Source: transformers 5, models/jais2/modeling_jais2.py and configuration_jais2.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common import gqa, plain_mlp, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.common_gguf import Gguf

GGUF = {"jais2": Gguf("jais2")}


def build(c: Config) -> Architecture:
    """Jais 2 from its config."""
    D = read_dims(c, 3328, 26, 26624, 150272, 32)
    attention = gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", True))
    act, bias = c.text("hidden_act", "relu2"), c.flag("mlp_bias", True)
    mlp = plain_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act, bias, names=("up_proj", "down_proj"))
    return dense(c, D, lambda kind: attention, mlp, positions=8192, norm="layer")
