"""Qwen, the first: GPT-2's frame with RMSNorms, q, k and v in one matrix, rotary embedding and a gated MLP.

Only remote code has the class; a config's ``intermediate_size`` is twice the width of the gate. Source: Qwen/Qwen-7B,
modeling_qwen.py and configuration_qwen.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, rotary_width
from estimator.families.common_gguf import Gguf

LAYER = "transformer.h.{i}"
GGUF = {"qwen": Gguf("qwen")}


def build(c: Config) -> Architecture:
    """Qwen from its config."""
    d, h, L = c.size("hidden_size", 4096), c.size("num_attention_heads", 32), c.size("num_hidden_layers", 32)
    V, d_h = c.size("vocab_size", 151936), c.size("kv_channels", 128, letter="head_dim")
    bias = not c.flag("no_bias", True)
    attention = Attention(
        projections=(Linear(f"{LAYER}.attn.c_attn", d, 3 * h * d_h, True),),
        out=Linear(f"{LAYER}.attn.c_proj", h * d_h, d, bias),
        heads=h, kv_heads=h, head_dim=d_h, rope_dim=rotary_width(c, d_h, spelling="rotary_pct"),
    )  # fmt: skip
    d_ff = c.size("intermediate_size", 22016) // 2
    mlp = gated_mlp(f"{LAYER}.mlp", d, d_ff, "silu", bias, names=("w2", "w1", "c_proj"))
    norms = (Norm(f"{LAYER}.ln_1", d), Norm(f"{LAYER}.ln_2", d))
    return decoder(
        c, (Lookup("transformer.wte", V, d),), (Layer(L, attention, mlp, norms, ("input", "pre_mlp")),),
        (Norm("transformer.ln_f", d),), V=V, d=d, L=L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("seq_length|max_position_embeddings", 8192),
    )  # fmt: skip
