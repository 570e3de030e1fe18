"""DistilBERT: BERT's layers under other names, without token types and pooler.

Source: transformers 5, models/distilbert/modeling_distilbert.py and configuration_distilbert.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, POSITION, Architecture, Extra, Layer, Linear, Lookup
from estimator.families.common import gqa, plain_mlp
from estimator.families.common_encoder import (
    CLASSIFIERS,
    built_class,
    classifier,
    encoder,
    labels,
    norm,
    per_sequence,
)
from estimator.families.common_gguf import Gguf

GGUF = {"distilbert": Gguf("bert")}
DROPS = {"drops": {"embedding": "dropout", "mixer": ""}}  # after the embeddings and the feed-forward block alone


def head(c: Config, suffix: str, d: Any, V: Any) -> dict[str, Any]:
    """What the class adds: the prediction head, or a classifier (behind one more dense layer for whole sequences)."""
    if suffix == "ForMaskedLM":
        bias = Extra("vocab_projector.bias", (V,), HEAD)
        tied = c.flag("tie_word_embeddings", True)
        transform = (Linear("vocab_transform", d, d, True), norm("vocab_layer_norm", d))
        return {
            "head": None if tied else Linear("vocab_projector", d, V, True, role=HEAD),
            "head_extras": (*transform, bias) if tied else transform,
            "has_head": True,
            "head_name": "vocab_projector",
            "facts": {"head_act": c.text("activation", "gelu")} | DROPS,
        }
    if suffix == "Model":
        return {"facts": DROPS}
    out = classifier(suffix, labels(c), d)
    dense = (Linear("pre_classifier", d, d, True), out)
    return {"pooler": dense, "facts": DROPS} if per_sequence(suffix) else {"final": (out,), "facts": DROPS}


def build(c: Config) -> Architecture:
    """DistilBERT from its config; ``architectures`` tells which head it has."""
    suffix = built_class(c, "DistilBert", "ForMaskedLM", ("Model", *CLASSIFIERS))
    top = "" if suffix == "Model" else "distilbert."
    d = c.size("dim|hidden_size", 768, letter="hidden_size")
    h = c.size("n_heads|num_attention_heads", 12, letter="num_attention_heads")
    c.divides(h, d, "n_heads", "dim")
    L = c.size("n_layers|num_hidden_layers", 6, letter="num_hidden_layers")
    V, d_ff = c.size("vocab_size", 30522), c.size("hidden_dim", 3072, letter="intermediate_size")
    at = f"{top}transformer.layer.{{i}}"
    attention = gqa(
        f"{at}.attention", d, h, h, d // h, bias=True, names=("q_lin", "k_lin", "v_lin", "out_lin"),
        position="learned", causal=False, softmax="scores",
    )  # fmt: skip
    mlp = plain_mlp(f"{at}.ffn", d, d_ff, c.text("activation", "gelu"), names=("lin1", "lin2"))
    layer = Layer(
        L, attention, mlp, (norm(f"{at}.sa_layer_norm", d), norm(f"{at}.output_layer_norm", d)),
        ("post_mixer", "post_mlp"), wiring="post", side="encoder",
    )  # fmt: skip
    rows = c.size("max_position_embeddings", 512)
    tables = (
        Lookup(f"{top}embeddings.word_embeddings", V, d),
        Lookup(f"{top}embeddings.position_embeddings", rows, d, POSITION),
        norm(f"{top}embeddings.LayerNorm", d),
    )
    return encoder(
        c, suffix, tables, (layer,), V, d, L, max_positions=int(rows), dropouts=("dropout", "attention_dropout"),
        **head(c, suffix, d, V),
    )  # fmt: skip
