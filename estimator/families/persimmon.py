"""Persimmon: fused q/k/v with biases, LayerNorms on every query and key head, half of each head rotated, squared ReLU.

Source: transformers 5, models/persimmon/modeling_persimmon.py and configuration_persimmon.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, plain_mlp, rotary_width
from estimator.families.common_dense import ATTN, LAYER, PRE


def build(c: Config) -> Architecture:
    """Persimmon from its config."""
    d, h = c.size("hidden_size", 4096), c.size("num_attention_heads", 64)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    d_h, V, L = d // h, c.size("vocab_size", 262144), c.size("num_hidden_layers", 36)
    normed = c.flag("qk_layernorm", True)
    attention = Attention(
        projections=(Linear(f"{ATTN}.query_key_value", d, 3 * d, True),),
        out=Linear(f"{ATTN}.dense", d, d, True),
        heads=h, kv_heads=h, head_dim=d_h, rope_dim=rotary_width(c, d_h, 0.5), rotary="joined",
        norms=tuple(Norm(f"{ATTN}.{n}_layernorm", d_h, "layer", True) for n in "qk") if normed else (),
    )  # fmt: skip
    mlp = plain_mlp(
        f"{LAYER}.mlp", d, c.size("intermediate_size", 16384), c.text("hidden_act", "relu2"),
        names=("dense_h_to_4h", "dense_4h_to_h"),
    )  # fmt: skip
    return decoder(
        c, (Lookup("model.embed_tokens", V, d),), (Layer(L, attention, mlp, PRE.norms(d, "layer"), PRE.roles),),
        (Norm("model.final_layernorm", d, "layer", True),), V=V, d=d, L=L,
        tied=c.flag("tie_word_embeddings", False), positions=c.plain("max_position_embeddings", 16384),
        residual_dropout=("hidden_dropout", 0.0),
    )  # fmt: skip
