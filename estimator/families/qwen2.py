"""Qwen 2 / 2.5 / 1.5 and Qwen 3: Llama's layer; Qwen 2 has biases on q, k and v, Qwen 3 norms on q and k.

The layers from ``max_window_layers`` on are windowed where ``use_sliding_window``.
Source: transformers 5, models/qwen2 and models/qwen3, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Classes, Layer, Lookup, Norm
from estimator.families.common import (
    FULL,
    SLIDING,
    decoder,
    gated_mlp,
    gqa,
    layer_groups,
    layer_kinds,
    read_dims,
    window_size,
    windowed,
)
from estimator.families.common_gguf import SEVENTY, Gguf

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"


GGUF = {"qwen2": Gguf("qwen2", quantizer=(SEVENTY,)), "qwen3": Gguf("qwen3")}


def build(c: Config) -> Architecture:
    """Qwen 2 or Qwen 3 from its config."""
    qwen3 = c.raw.get("model_type") == "qwen3"
    D = read_dims(c, 4096, 32, 22016, 151936, 32, h_kv=32, d_h=128 if qwen3 else None)
    bias = c.flag("attention_bias", False) if qwen3 else True
    window = window_size(c, 4096) if c.flag("use_sliding_window", False) else None
    first = c.plain("max_window_layers", 28)
    pattern = None if window is None else (lambda i: SLIDING if i >= first else FULL)
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    norms = (Norm(f"{LAYER}.input_layernorm", D.d), Norm(f"{LAYER}.post_attention_layernorm", D.d))
    qk_norms = (Norm(f"{ATTN}.q_norm", D.d_h), Norm(f"{ATTN}.k_norm", D.d_h)) if qwen3 else ()
    layers = []
    for kind, times, at in layer_groups(windowed(c, layer_kinds(c, D.L, pattern), window), D.L, c.traced):
        attention = gqa(
            ATTN, D.d, D.h, D.h_kv, D.d_h, bias=bias, out_bias=bias and qwen3, norms=qk_norms,
            window=window if kind == SLIDING else None,
        )  # fmt: skip
        layers.append(Layer(times, attention, mlp, norms, ("input", "pre_mlp"), indices=at))
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), layers, (Norm("model.norm", D.d),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 32768), classes=Classes(bare="transformer"),
    )  # fmt: skip
