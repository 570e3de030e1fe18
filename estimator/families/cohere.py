"""Command R (Cohere) and Command R7B (Cohere 2): one LayerNorm without bias for an attention and a gated MLP
side by side, interleaved rotary embedding, scaled logits, a tied head.

Cohere 2: three windowed layers with rotary embedding to one full layer without.
Source: transformers 5, models/cohere and models/cohere2, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import (
    FULL,
    SLIDING,
    decoder,
    every,
    gated_mlp,
    gqa,
    layer_groups,
    layer_kinds,
    read_dims,
    window_size,
    windowed,
)
from estimator.families.common_gguf import Gguf

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"
NORM_KIND = "layer_fp32"


GGUF = {"cohere": Gguf("command-r"), "cohere2": Gguf("cohere2", windows=True)}


def build(c: Config) -> Architecture:
    """Cohere or Cohere 2 from its config."""
    second = c.raw.get("model_type") == "cohere2"
    D = read_dims(c, 8192, 64, 22528, 256000, 40)
    window = window_size(c, 4096) if second else None
    period = c.plain("sliding_window_pattern", 4, least=1)
    kinds = windowed(c, layer_kinds(c, D.L, every(period)), window) if second else [FULL]
    qk_norms = () if second or not c.flag("use_qk_norm", False) else (
        Norm(f"{ATTN}.q_norm", D.d_h, NORM_KIND, shape=(D.h, D.d_h)),
        Norm(f"{ATTN}.k_norm", D.d_h, NORM_KIND, shape=(D.h_kv, D.d_h)),
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    norms = (Norm(f"{LAYER}.input_layernorm", D.d, NORM_KIND),)
    layers = []
    for kind, times, at in layer_groups(kinds, D.L, c.traced):
        rotated = not second or kind == SLIDING
        attention = gqa(
            ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), norms=qk_norms,
            window=window if kind == SLIDING else None,
            position="rope" if rotated else "none", rope_style="interleaved" if rotated else "none",
            rotary="widened",
        )  # fmt: skip
        layers.append(Layer(times, attention, mlp, norms, ("input",), "parallel", indices=at))
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), layers, (Norm("model.norm", D.d, NORM_KIND),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", True),
        positions=c.plain("max_position_embeddings", 8192), facts={"logit_scale": True},
    )  # fmt: skip
