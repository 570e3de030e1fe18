"""Baichuan 1 and 2: Llama's layer with q, k and v in one matrix; the 7B turns them, the 13B has ALiBi instead.

Only remote code has the classes, and a config does not say which of them it is: the 7B's is the one of width 4096, as
vLLM and llama.cpp tell them apart. Source: baichuan-inc/Baichuan2-7B-Base and -13B-Base, modeling_baichuan.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Linear
from estimator.families.common import gated_mlp, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.common_gguf import Gguf

TURNED = 4096  # width of the models with rotary embedding
GGUF = {"baichuan": Gguf("baichuan", split=True)}


def build(c: Config) -> Architecture:
    """Baichuan from its config."""
    D = read_dims(c, 4096, 32, 11008, 64000, 32)
    turned = c.plain("hidden_size", TURNED) == TURNED
    attention = Attention(
        projections=(Linear(f"{ATTN}.W_pack", D.d, 3 * D.d),), out=Linear(f"{ATTN}.o_proj", D.d, D.d),
        heads=D.h, kv_heads=D.h, head_dim=D.d_h, position="rope" if turned else "alibi",
        rope_dim=D.d_h if turned else None, rope_style="half" if turned else "none",
        mask="needed" if turned else "always",
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    return dense(c, D, lambda kind: attention, mlp, positions=c.plain("model_max_length", 4096))
