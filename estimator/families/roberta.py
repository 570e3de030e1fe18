"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's layers with its own head; the position table counts from
``pad_token_id + 1``, so two of its 514 rows are never reached.

Source: transformers 5, models/roberta, xlm_roberta and camembert, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common_encoder import (
    CLASSIFIERS,
    DROPOUTS,
    bert_layer,
    built_class,
    embedding_tables,
    encoder,
    roberta_heads,
)
from estimator.families.common_gguf import Gguf

STEMS = {"roberta": ("Roberta", 50265), "xlm-roberta": ("XLMRoberta", 30522), "camembert": ("Camembert", 30522)}

GGUF = dict.fromkeys(STEMS, Gguf("bert"))


def build(c: Config) -> Architecture:
    """RoBERTa from its config; ``architectures`` tells which head it has, and whether a pooler."""
    stem, words = STEMS[c.text("model_type", "")]
    suffix = built_class(c, stem, "ForMaskedLM", ("Model", "ForCausalLM", *CLASSIFIERS))
    top = "" if suffix == "Model" else "roberta."
    d, L = c.size("hidden_size", 768), c.size("num_hidden_layers", 12)
    V = c.size("vocab_size", words)
    pooler, fields = roberta_heads(c, suffix, top, d, V)
    rows, pad = c.plain("max_position_embeddings", 512), c.plain("pad_token_id", 1)
    return encoder(
        c, suffix, embedding_tables(c, f"{top}embeddings", V, d, 2, 512),
        (bert_layer(c, f"{top}encoder.layer.{{i}}", d, L),), V, d, L, pooler,
        max_positions=max(rows - pad - 1, 1), dropouts=DROPOUTS, **fields,
    )  # fmt: skip
