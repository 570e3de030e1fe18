"""ELECTRA: BERT's layers behind embeddings of a width of their own; a generator's head or a discriminator's.

Source: transformers 5, models/electra/modeling_electra.py and configuration_electra.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, Architecture, Extra, Linear
from estimator.families.common_encoder import (
    CLASSIFIERS,
    DROPOUTS,
    PREDICTING,
    bert_layer,
    built_class,
    classifier,
    embedding_tables,
    encoder,
    labels,
    norm,
)


def build(c: Config) -> Architecture:
    """ELECTRA from its config; ``architectures`` tells which head it has."""
    suffix = built_class(c, "Electra", "ForMaskedLM", ("Model", "ForPreTraining", "ForCausalLM", *CLASSIFIERS))
    top = "" if suffix == "Model" else "electra."
    d, L = c.size("hidden_size", 256), c.size("num_hidden_layers", 12)
    width, V = c.size("embedding_size", 128), c.size("vocab_size", 30522)
    # 4 heads and an MLP of 1024, where BERT's class has 12 and 3072
    inner = Config({"num_attention_heads": 4, "intermediate_size": 1024, **c.raw}, c.traced, c.where)
    widened = (Linear(f"{top}embeddings_project", width, d, True),) if width != d else ()
    fields: dict[str, Any] = {}
    pooler: tuple[Any, ...] = ()
    if suffix in PREDICTING:
        tied, head = c.flag("tie_word_embeddings", True), "generator_lm_head"
        at = "generator_predictions"
        fields = {
            "head": None if tied else Linear(head, width, V, True, role=HEAD),
            "head_extras": (
                Linear(f"{at}.dense", d, width, True), norm(f"{at}.LayerNorm", width),
                *((Extra(f"{head}.bias", (V,), HEAD),) if tied else ()),
            ),
            "has_head": True, "head_name": head, "facts": {"head_width": width, "head_act": "gelu"},
        }  # fmt: skip
    elif suffix == "ForPreTraining":
        at = "discriminator_predictions"
        fields["final"] = (Linear(f"{at}.dense", d, d, True), Linear(f"{at}.dense_prediction", d, 1, True))
    elif suffix == "ForSequenceClassification":
        pooler = (Linear("classifier.dense", d, d, True), Linear("classifier.out_proj", d, labels(c), True))
    elif suffix == "ForMultipleChoice":
        summary = (Linear("sequence_summary.summary", d, d, True),) if c.flag("summary_use_proj", True) else ()
        pooler = (*summary, classifier(suffix, 1, d))
    elif suffix in CLASSIFIERS:
        fields["final"] = (classifier(suffix, labels(c), d),)
    return encoder(
        c, suffix, (*embedding_tables(c, f"{top}embeddings", V, width, 2, 512), *widened),
        (bert_layer(inner, f"{top}encoder.layer.{{i}}", d, L),), V, d, L, pooler,
        max_positions=c.plain("max_position_embeddings", 512), dropouts=DROPOUTS, **fields,
    )  # fmt: skip
