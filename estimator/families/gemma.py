"""Gemma 1, 2 and 3 (text): heads wider than d/h, RMSNorms that scale by 1 + weight, scaled embeddings, a
GELU-gated MLP.

Gemma 2: norms before and after both branches, soft-capped scores and logits, every other layer windowed.
Gemma 3: the same norms, q/k norms in place of the caps, five windowed layers to one full.
Source: transformers 5, models/gemma, gemma2 and gemma3, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Layer, Lookup, Norm
from estimator.families.common import (
    SLIDING,
    Dims,
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

SANDWICH = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
SANDWICH_ROLES = ("input", "post_mixer", "pre_mlp", "post_mlp")


_THIRD = Gguf("gemma3", windows=True, scaled_queries=True, embed_rows=True)
GGUF = {
    "gemma": Gguf("gemma", scaled_queries=True),
    "gemma2": Gguf("gemma2", windows=True, scaled_queries=True),
    "gemma3_text": _THIRD._replace(both_ways=_THIRD._replace(name="gemma-embedding")),
}


def build(c: Config) -> Architecture:
    """A Gemma text model from its config."""
    return build_text(c, {"gemma": 1, "gemma2": 2}.get(c.text("model_type", ""), 3))


def build_text(c: Config, generation: int, prefix: str = "model", **fields: Any) -> Architecture:
    """Gemma's decoder of that generation in module ``prefix``; ``fields`` go to the Architecture."""
    D = _dims(c, generation)
    layer = f"{prefix}.layers.{{i}}"
    # Gemma 1's class reads hidden_act, and takes its legacy "gelu" for the tanh approximation
    act = c.text("hidden_act" if generation == 1 else "hidden_activation", "gelu_pytorch_tanh")
    mlp = gated_mlp(f"{layer}.mlp", D.d, D.d_ff, "gelu_pytorch_tanh" if generation == 1 and act == "gelu" else act)
    names = SANDWICH if generation > 1 else SANDWICH[:2]
    norms = tuple(Norm(f"{layer}.{n}", D.d, "rms_plus1") for n in names)
    both_ways = c.flag("use_bidirectional_attention", False)
    window = window_size(c, 4096) if generation > 1 else None
    if generation == 3 and both_ways and window is not None:
        window = window // 2 + 1
    period = {1: 1, 2: 2}.get(generation) or c.plain("sliding_window_pattern", 6, least=1)
    kinds = layer_kinds(c, D.L, every(period)) if generation > 1 else ["full_attention"]
    attn = f"{layer}.self_attn"
    qk_norms = tuple(Norm(f"{attn}.{n}_norm", D.d_h, "rms_plus1") for n in "qk") if generation == 3 else ()
    layers = []
    for kind, times, at in layer_groups(windowed(c, kinds, window), D.L, c.traced):
        attention = gqa(
            attn, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), norms=qk_norms,
            window=window if kind == SLIDING else None, softcap=_cap(c, "attn_logit_softcapping", generation),
            causal=not both_ways, normed="transposed",
        )  # fmt: skip
        roles, wiring = (SANDWICH_ROLES, "sandwich") if generation > 1 else (("input", "pre_mlp"), "pre")
        layers.append(Layer(times, attention, mlp, norms, roles, wiring, indices=at))
    positions = c.plain("max_position_embeddings", 131072 if generation == 3 else 8192)
    fields.setdefault("tied", c.flag("tie_word_embeddings", True))
    table = Lookup(f"{prefix}.embed_tokens", D.V, D.d, scaled=True)
    return decoder(
        c, (table,), layers, (Norm(f"{prefix}.norm", D.d, "rms_plus1"),),
        V=D.V, d=D.d, L=D.L, positions=positions,
        facts={"embed_scale": "table", "logit_softcap": _cap(c, "final_logit_softcapping", generation)},
        **fields,
    )  # fmt: skip


def _dims(c: Config, generation: int) -> Dims:
    if generation == 1:
        return read_dims(c, 3072, 16, 24576, 256000, 28, h_kv=16, d_h=256)
    return read_dims(c, 2304, 8, 9216, 256000 if generation == 2 else 262208, 26, h_kv=4, d_h=256)


def _cap(c: Config, name: str, generation: int) -> bool:
    """Whether that soft cap is in force: Gemma 2 by default, Gemma 3 if named; null is none."""
    if name in c.raw and c.raw[name] is None:
        return False
    return generation > 1 and c.number(name, 1.0 if generation == 2 else 0.0) != 0.0
