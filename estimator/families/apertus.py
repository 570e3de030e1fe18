"""Apertus: q/k norms and a plain MLP whose activation, xIELU, has two trained numbers.

Source: transformers 5, models/apertus/modeling_apertus.py, configuration_apertus.py and activations.py
(XIELUActivation).
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Extra
from estimator.families.common import gqa, plain_mlp, read_dims
from estimator.families.common_dense import ATTN, LAYER, PRE, dense, head_norms
from estimator.families.common_gguf import Gguf

GGUF = {"apertus": Gguf("apertus")}


def build(c: Config) -> Architecture:
    """Apertus from its config."""
    D = read_dims(c, 4096, 32, 14336, 131072, 32)
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), norms=head_norms(D.d_h),
        normed="transposed",
    )  # fmt: skip
    act = c.text("hidden_act", "xielu")
    mlp = plain_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act, bias=False, names=("up_proj", "down_proj"))
    if act == "xielu":
        mlp = mlp._replace(extras=tuple(Extra(f"{LAYER}.mlp.act_fn.alpha_{side}", (1,)) for side in "pn"))
    frame = PRE._replace(names=("attention_layernorm", "feedforward_layernorm"))
    return dense(c, D, lambda kind: attention, mlp, frame=frame, positions=65536)
