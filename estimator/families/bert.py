"""BERT: learned positions and token types, post-norm layers, a prediction head tied to the token table.

Source: transformers 5, models/bert/modeling_bert.py and configuration_bert.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Linear
from estimator.families.common_encoder import (
    CLASSIFIERS,
    DROPOUTS,
    bert_layer,
    built_class,
    classifier,
    embedding_tables,
    encoder,
    labels,
    per_sequence,
    prediction_head,
)
from estimator.families.common_gguf import Gguf

POOLED = ("Model", "ForPreTraining", "ForNextSentencePrediction", "ForSequenceClassification", "ForMultipleChoice")
PREDICTING = ("ForMaskedLM", "ForPreTraining", "LMHeadModel")

GGUF = {"bert": Gguf("bert")}


def build(c: Config) -> Architecture:
    """BERT from its config; ``architectures`` tells which head it has, and whether a pooler."""
    suffix = built_class(
        c, "Bert", "ForMaskedLM", ("Model", "ForPreTraining", "LMHeadModel", "ForNextSentencePrediction", *CLASSIFIERS)
    )
    top = "" if suffix == "Model" else "bert."
    d, L = c.size("hidden_size", 768), c.size("num_hidden_layers", 12)
    V = c.size("vocab_size", 30522)
    pooler = [Linear(f"{top}pooler.dense", d, d, True)] if suffix in POOLED else []
    fields: dict[str, Any] = {}
    if suffix in PREDICTING:
        at = "cls.predictions"
        fields = prediction_head(
            f"{at}.transform.dense", f"{at}.transform.LayerNorm", f"{at}.decoder", d, d, V,
            c.flag("tie_word_embeddings", True),
        )  # fmt: skip
        fields["facts"] = {"head_act": c.text("hidden_act", "gelu")}
    if suffix in ("ForPreTraining", "ForNextSentencePrediction"):
        pooler.append(Linear("cls.seq_relationship", d, 2, True))
    elif suffix in CLASSIFIERS:
        out = classifier(suffix, labels(c), d)
        if per_sequence(suffix):
            pooler.append(out)
        else:
            fields["final"] = (out,)
    return encoder(
        c, suffix, embedding_tables(c, f"{top}embeddings", V, d, 2, 512),
        (bert_layer(c, f"{top}encoder.layer.{{i}}", d, L),), V, d, L, tuple(pooler),
        max_positions=c.plain("max_position_embeddings", 512), dropouts=DROPOUTS, **fields,
    )  # fmt: skip
