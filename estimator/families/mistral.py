"""Mistral: Llama's layer without biases, every layer behind one sliding window where the config has one.

Source: transformers 5, models/mistral/modeling_mistral.py and configuration_mistral.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, gqa, read_dims, window_size
from estimator.families.common_gguf import SEVENTY_GROUPED, Gguf

LAYER = "model.layers.{i}"


GGUF = {"mistral": Gguf("llama", quantizer=(SEVENTY_GROUPED,))}


def build(c: Config) -> Architecture:
    """Mistral from its config. ``sliding_window`` absent is 4096, null is none (from v0.2 on)."""
    D = read_dims(c, 4096, 32, 14336, 32000, 32, h_kv=8)
    attention = gqa(f"{LAYER}.self_attn", D.d, D.h, D.h_kv, D.d_h, window=window_size(c, 4096))
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    norms = (Norm(f"{LAYER}.input_layernorm", D.d), Norm(f"{LAYER}.post_attention_layernorm", D.d))
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),),
        (Layer(D.L, attention, mlp, norms, ("input", "pre_mlp")),), (Norm("model.norm", D.d),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 131072),
    )  # fmt: skip
