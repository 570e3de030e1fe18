"""Phi-3 and Phi-4: Llama's layer with q, k, v in one matrix and gate and up in one matrix.

Source: transformers 5, models/phi3/modeling_phi3.py and configuration_phi3.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Attention, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, read_dims, rotary_width, window_size
from estimator.families.common_gguf import BRANCH, RESIDUAL, Gguf

LAYER = "model.layers.{i}"


GGUF = {"phi3": Gguf("phi3", scaled_queries=True, sums=(BRANCH, RESIDUAL))}


def build(c: Config) -> Architecture:
    """Phi-3 from its config."""
    D = read_dims(c, 3072, 32, 8192, 32064, 32)
    attn = f"{LAYER}.self_attn"
    attention = Attention(
        projections=(Linear(f"{attn}.qkv_proj", D.d, (D.h + 2 * D.h_kv) * D.d_h),),
        out=Linear(f"{attn}.o_proj", D.h * D.d_h, D.d),
        heads=D.h, kv_heads=D.h_kv, head_dim=D.d_h, rope_dim=rotary_width(c, D.d_h),
        window=window_size(c, None), rotary="joined", taken="slices",
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), names=("gate_up_proj", "down_proj"))
    norms = (Norm(f"{LAYER}.input_layernorm", D.d), Norm(f"{LAYER}.post_attention_layernorm", D.d))
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),),
        (Layer(D.L, attention, mlp, norms, ("input", "pre_mlp")),), (Norm("model.norm", D.d),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 4096), residual_dropout=("resid_pdrop", 0.0),
    )  # fmt: skip
