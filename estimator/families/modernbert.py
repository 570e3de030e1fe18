"""ModernBERT: a pre-norm encoder with rotary embedding, fused projections, a gated MLP, and full attention every third
layer; the others see ``local_attention // 2`` tokens to either side. The first layer has no attention norm.

Source: transformers 5, models/modernbert/modeling_modernbert.py and configuration_modernbert.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, Architecture, Attention, Extra, Layer, Linear, Lookup, Norm
from estimator.families.common import FULL, SLIDING, gated_mlp
from estimator.families.common_encoder import CLASSIFIERS, built_class, encoder, labels, per_sequence
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import MIXER_LETTERS, layer_types
from estimator.trace import trace

GGUF = {"modernbert": Gguf("modern-bert")}


def mixer(c: Config, at: str, d: Any, h: Any, window: Any) -> Attention:
    """Bidirectional attention with one projection to q, k and v."""
    bias, d_h = c.flag("attention_bias", False), d // h
    return Attention(
        projections=(Linear(f"{at}.attn.Wqkv", d, 3 * d, bias),),
        out=Linear(f"{at}.attn.Wo", d, d, bias),
        heads=h, kv_heads=h, head_dim=d_h, rope_dim=d_h, window=window, causal=False, rotary="fp32",
    )  # fmt: skip


def layers_of(c: Config, top: str, d: Any, L: Any) -> tuple[Layer, ...]:
    """Layer 0 alone, then the full and the windowed ones in the order of first appearance."""
    h = c.size("num_attention_heads", 12)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    every = c.plain("global_attn_every_n_layers", 3, least=1)
    types = layer_types(c, L, (FULL, SLIDING), lambda i: SLIDING if i % every else FULL)
    at, bias = f"{top}layers.{{i}}", c.flag("norm_bias", False)
    window = c.size("local_attention", 128, letter="sliding_window")
    mixers = {FULL: mixer(c, at, d, h, None), SLIDING: mixer(c, at, d, h, window)}
    mlp = gated_mlp(
        f"{at}.mlp", d, c.size("intermediate_size", 1152), c.text("hidden_activation", "gelu"),
        c.flag("mlp_bias", False), names=("Wi", "Wo"),
    )  # fmt: skip
    before, after = Norm(f"{at}.attn_norm", d, "layer", bias), Norm(f"{at}.mlp_norm", d, "layer", bias)

    def total(kind: str) -> Any:
        if len(set(types)) == 1:
            return L
        return trace(MIXER_LETTERS[kind], types.count(kind)) if c.traced else types.count(kind)

    first = Layer(1, mixers[types[0]], mlp, (after,), ("pre_mlp",), side="encoder", indices=(0,))
    out = [first]
    for kind in dict.fromkeys(types[1:]):
        indices = tuple(i for i, t in enumerate(types) if t == kind and i > 0)
        times = total(kind) - 1 if kind == types[0] else total(kind)
        roles = ("input", "pre_mlp")
        out.append(Layer(times, mixers[kind], mlp, (before, after), roles, side="encoder", indices=indices))
    return tuple(out)


def build(c: Config) -> Architecture:
    """ModernBERT from its config; ``architectures`` tells which head it has."""
    suffix = built_class(c, "ModernBert", "ForMaskedLM", ("Model", *CLASSIFIERS))
    top = "" if suffix == "Model" else "model."
    d, L = c.size("hidden_size", 768), c.size("num_hidden_layers", 22)
    V, bias = c.size("vocab_size", 50368), c.flag("norm_bias", False)
    transform = (
        Linear("head.dense", d, d, c.flag("classifier_bias", False)),
        Norm("head.norm", d, "layer", bias),
    )
    final: tuple[Any, ...] = (Norm(f"{top}final_norm", d, "layer", bias),)
    facts = {"head_act": c.text("classifier_activation", "gelu")}
    fields: dict[str, Any] = {}
    if suffix == "ForMaskedLM":
        tied, with_bias = c.flag("tie_word_embeddings", True), c.flag("decoder_bias", True)
        only_bias = (Extra("decoder.bias", (V,), HEAD),) if tied and with_bias else ()
        fields = {
            "head": None if tied else Linear("decoder", d, V, with_bias, role=HEAD),
            "head_extras": (*transform, *only_bias),
            "has_head": True,
        }
    elif suffix != "Model":
        out = Linear("classifier", d, 1 if suffix == "ForMultipleChoice" else labels(c), True)
        if per_sequence(suffix):
            fields = {"pooler": (*transform, out)}
        else:
            final = (*final, *transform, out)
    return encoder(
        c, suffix, (Lookup(f"{top}embeddings.tok_embeddings", V, d), Norm(f"{top}embeddings.norm", d, "layer", bias)),
        layers_of(c, top, d, L), V, d, L, final=final, facts=facts, head_name="decoder", wide_loss=True,
        max_positions=c.plain("max_position_embeddings", 8192), **fields,
    )  # fmt: skip
