"""Granite: Llama's layer with multipliers on the embeddings, the residual branches, the attention and the
logits.

Source: transformers 5, models/granite/modeling_granite.py and configuration_granite.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, gqa, read_dims
from estimator.families.common_gguf import Gguf

LAYER = "model.layers.{i}"


GGUF = {"granite": Gguf("granite")}


def build(c: Config) -> Architecture:
    """Granite from its config."""
    D = read_dims(c, 4096, 32, 11008, 32000, 32)
    attention = gqa(f"{LAYER}.self_attn", D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False))
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), c.flag("mlp_bias", False))
    norms = (Norm(f"{LAYER}.input_layernorm", D.d), Norm(f"{LAYER}.post_attention_layernorm", D.d))
    layer = Layer(D.L, attention, mlp, norms, ("input", "pre_mlp"), residual_scale=True)
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), (layer,), (Norm("model.norm", D.d),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 2048),
        facts={"embed_scale": "stream", "logit_scale": True},
    )  # fmt: skip
