"""EuroBERT: Llama's layer looking both ways, with a masked-language-model head.

Source: transformers 5, models/eurobert/modeling_eurobert.py and configuration_eurobert.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, Architecture, Extra, Layer, Linear, Lookup, Norm
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_encoder import built_class, encoder, labels
from estimator.families.common_gguf import Gguf

GGUF = {"eurobert": Gguf("eurobert")}


def build(c: Config) -> Architecture:
    """EuroBERT from its config; ``architectures`` tells which head it has."""
    suffix = built_class(
        c, "EuroBert", "ForMaskedLM", ("Model", "ForSequenceClassification", "ForTokenClassification")
    )  # fmt: skip
    top = "" if suffix == "Model" else "model."
    D = read_dims(c, 768, 12, 3072, 128256, 12)
    at, m_bias = f"{top}layers.{{i}}", c.flag("mlp_bias", False)
    attention = gqa(
        f"{at}.self_attn", D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), causal=False
    )  # fmt: skip
    mlp = gated_mlp(f"{at}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), m_bias)
    norms = (Norm(f"{at}.input_layernorm", D.d), Norm(f"{at}.post_attention_layernorm", D.d))
    layer = Layer(D.L, attention, mlp, norms, ("input", "pre_mlp"), side="encoder")
    final: tuple[Any, ...] = (Norm(f"{top}norm", D.d),)
    fields: dict[str, Any] = {}
    pooler: tuple[Any, ...] = ()
    if suffix == "ForMaskedLM":
        tied = c.flag("tie_word_embeddings", False)
        fields = {
            "head": None if tied else Linear("lm_head", D.d, D.V, m_bias, role=HEAD), "has_head": True,
            "head_extras": (Extra("lm_head.bias", (D.V,), HEAD),) if tied and m_bias else (),
        }  # fmt: skip
    elif suffix == "ForSequenceClassification":
        both = (Linear("dense", D.d, D.d, True), Linear("classifier", D.d, labels(c), True))
        late = c.text("classifier_pooling", "late") == "late"  # scores of every token are averaged
        final, pooler = ((*final, *both), ()) if late else (final, both)
    elif suffix == "ForTokenClassification":
        final = (*final, Linear("classifier", D.d, labels(c), True))
    made = encoder(
        c, suffix, (Lookup(f"{top}embed_tokens", D.V, D.d),), (layer,), D.V, D.d, D.L, pooler, final=final,
        max_positions=c.plain("max_position_embeddings", 8192), **fields,
    )  # fmt: skip
    return made._replace(tied=made.has_head and made.head is None, wide_loss=True)
