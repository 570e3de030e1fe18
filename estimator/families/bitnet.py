"""BitNet b1.58: Llama's layer with a norm before the attention's and the MLP's last matrix, and a squared ReLU.

The class computes with weights of 16 bits; files may store them in two bits.
Source: transformers 5, models/bitnet/modeling_bitnet.py and configuration_bitnet.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Norm
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.common_gguf import Gguf

GGUF = {"bitnet": Gguf("bitnet")}


def build(c: Config) -> Architecture:
    """BitNet from its config."""
    D = read_dims(c, 2560, 20, 6912, 128256, 30, h_kv=5)
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False),
        out_norm=Norm(f"{ATTN}.attn_sub_norm", D.d),
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "relu2"))
    mlp = mlp._replace(norm=Norm(f"{LAYER}.mlp.ffn_sub_norm", D.d_ff))
    return dense(c, D, lambda kind: attention, mlp, positions=2048)
