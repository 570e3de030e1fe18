"""ALBERT: one layer's weights used by all layers, and an embedding narrower than the model (arXiv:1909.11942).

``num_hidden_groups`` sets of weights share the layers between them; each set holds ``inner_group_num`` layers, run one
after the other. Source: transformers 5, models/albert/modeling_albert.py and configuration_albert.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Layer, Linear
from estimator.families.common import gqa, layer_count
from estimator.families.common_encoder import (
    CLASSIFIERS,
    built_class,
    classifier,
    embedding_tables,
    encoder,
    labels,
    norm,
    per_sequence,
    prediction_head,
)

MAX_KINDS = 32  # layers with weights of their own; published ones have one
POOLED = ("Model", "ForPreTraining", "ForSequenceClassification", "ForMultipleChoice")


def shared_layer(c: Config, at: str, d: Any, times: Any) -> Layer:
    """One layer's weights, used ``times`` times."""
    h, d_ff = c.size("num_attention_heads", 64), c.size("intermediate_size", 16384)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    attention = gqa(
        f"{at}.attention", d, h, h, d // h, bias=True, names=("query", "key", "value", "dense"),
        position="learned", causal=False, softmax="scores",
    )  # fmt: skip
    mlp = MLP(
        (Linear(f"{at}.ffn", d, d_ff, True), Linear(f"{at}.ffn_output", d_ff, d, True)),
        d_ff, c.text("hidden_act", "gelu_new"), gated=False,
    )  # fmt: skip
    return Layer(
        times, attention, mlp, (norm(f"{at}.attention.LayerNorm", d), norm(f"{at}.full_layer_layer_norm", d)),
        ("post_mixer", "post_mlp"), wiring="post", side="encoder", shared=True,
    )  # fmt: skip


def layers_of(c: Config, top: str, d: Any, L: Any) -> tuple[Layer, ...]:
    """The groups: layer i uses group floor(i * groups / L), as AlbertTransformer divides them."""
    groups, inner = c.plain("num_hidden_groups", 1, least=1), c.plain("inner_group_num", 1, least=1)
    if groups > layer_count(c, L):
        raise InputError(f"{c.where}: num_hidden_groups={groups} is more than num_hidden_layers={int(L)}")
    if groups * inner > MAX_KINDS:
        raise InputError(
            f"{c.where}: num_hidden_groups={groups}, inner_group_num={inner}: out of range (at most {MAX_KINDS} layers "
            "with weights of their own)"
        )
    used = Counter(int(i / (int(L) / groups)) for i in range(int(L)))
    even = L % groups == 0
    return tuple(
        shared_layer(c, f"{top}encoder.albert_layer_groups.{g}.albert_layers.{j}", d, L // groups if even else used[g])
        for g in range(groups)
        for j in range(inner)
    )


def build(c: Config) -> Architecture:
    """ALBERT from its config; ``architectures`` tells which head it has, and whether a pooler."""
    suffix = built_class(c, "Albert", "ForMaskedLM", ("Model", "ForPreTraining", *CLASSIFIERS))
    top = "" if suffix == "Model" else "albert."
    d, L = c.size("hidden_size", 4096), c.size("num_hidden_layers", 12)
    width, V = c.size("embedding_size", 128), c.size("vocab_size", 30000)
    pooler = [Linear(f"{top}pooler", d, d, True)] if suffix in POOLED else []
    fields: dict[str, Any] = {}
    if suffix in ("ForMaskedLM", "ForPreTraining"):
        fields = prediction_head(
            "predictions.dense", "predictions.LayerNorm", "predictions.decoder", d, width, V,
            c.flag("tie_word_embeddings", True),
        )  # fmt: skip
        fields["facts"] = {"head_width": width, "head_act": c.text("hidden_act", "gelu_new")}
        if suffix == "ForPreTraining":
            pooler.append(Linear("sop_classifier.classifier", d, labels(c), True))
    elif suffix in CLASSIFIERS:
        out = classifier(suffix, labels(c), d)
        if per_sequence(suffix):
            pooler.append(out)
        else:
            fields["final"] = (out,)
    tables = embedding_tables(c, f"{top}embeddings", V, width, 2, 512)
    return encoder(
        c, suffix, (*tables, Linear(f"{top}encoder.embedding_hidden_mapping_in", width, d, True)),
        layers_of(c, top, d, L), V, d, L, tuple(pooler),
        max_positions=c.plain("max_position_embeddings", 512), **fields,
    )  # fmt: skip
