"""DeBERTa-v2 and v3: scores of content and of relative positions, each with products of its own (arXiv:2006.03654).

The relative positions' vectors are one table for all layers, which every layer projects; with ``share_att_key`` by the
content's own matrices.
Source: transformers 5, models/deberta_v2/modeling_deberta_v2.py and configuration_deberta_v2.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import (
    HEAD,
    OTHER,
    POSITION,
    TOKEN_TYPE,
    Architecture,
    Disentangled,
    Extra,
    Layer,
    Linear,
    Lookup,
    Weight,
)
from estimator.families.common import gqa
from estimator.families.common_encoder import (
    CLASSIFIERS,
    DROPOUTS,
    bert_mlp,
    built_class,
    classifier,
    encoder,
    labels,
    norm,
    per_sequence,
)
from estimator.families.towers import Conv

POOLED = ("ForSequenceClassification", "ForMultipleChoice")


def span(c: Config) -> int:
    """Relative positions to each side that have a vector."""
    buckets = _signed(c, "position_buckets")
    if buckets > 0:
        return buckets
    most = _signed(c, "max_relative_positions")
    return most if most > 0 else c.plain("max_position_embeddings", 512)


def _signed(c: Config, name: str) -> int:
    """A whole number that is -1 where it is off."""
    return -1 if c.raw.get(name) == -1 else c.plain(name, -1, least=-1)


def terms(c: Config) -> tuple[str, ...]:
    """``pos_att_type``: a list, or a text with bars, of "c2p" and "p2c"."""
    value = c.raw.get("pos_att_type") or []
    names = value.lower().split("|") if isinstance(value, str) else [str(x) for x in c.items("pos_att_type") or []]
    return tuple(x for x in ("c2p", "p2c") if x in [n.strip() for n in names])


def layer_of(c: Config, at: str, d: Any, L: Any) -> Layer:
    """BERT's layer; with relative attention, the products over the positions' table too."""
    h, d_ff = c.size("num_attention_heads", 24), c.size("intermediate_size", 6144)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    d_h = c.size("attention_head_size", d // h, letter="head_dim")
    attn, relative = f"{at}.attention", None
    if c.flag("relative_attention", False):
        own = {"c2p": "pos_key_proj", "p2c": "pos_query_proj"}
        shared, used = c.flag("share_att_key", False), terms(c)
        linears = () if shared else tuple(Linear(f"{attn}.self.{own[t]}", d, h * d_h, True) for t in used)
        relative = Disentangled(2 * span(c), used, linears)
    attention = gqa(
        attn, d, h, h, d_h, bias=True, position="learned", causal=False, softmax="scores", sdpa=False,
        names=("self.query_proj", "self.key_proj", "self.value_proj", "output.dense"), disentangled=relative,
    )  # fmt: skip
    norms = (norm(f"{attn}.output.LayerNorm", d), norm(f"{at}.output.LayerNorm", d))
    mlp = bert_mlp(c, at, d, d_ff)
    return Layer(L, attention, mlp, norms, ("post_mixer", "post_mlp"), wiring="post", side="encoder")


def build(c: Config) -> Architecture:
    """DeBERTa from its config; ``architectures`` tells which head it has."""
    suffix = built_class(c, "DebertaV2", "ForMaskedLM", ("Model", *CLASSIFIERS))
    top = "" if suffix == "Model" else "deberta."
    d, L, V = c.size("hidden_size", 1536), c.size("num_hidden_layers", 24), c.size("vocab_size", 128100)
    width, at = c.size("embedding_size", d), f"{top}embeddings"
    rows, types = c.size("max_position_embeddings", 512), c.size("type_vocab_size", 0, least=0)
    tables: list[Any] = [Lookup(f"{at}.word_embeddings", V, width)]
    if c.flag("position_biased_input", True):
        tables.append(Lookup(f"{at}.position_embeddings", rows, width, POSITION))
    if types:
        tables.append(Lookup(f"{at}.token_type_embeddings", types, width, TOKEN_TYPE))
    if width != d:
        tables.append(Linear(f"{at}.embed_proj", width, d))
    tables.append(norm(f"{at}.LayerNorm", d))
    loose: list[Weight] = []
    if c.flag("relative_attention", False):
        loose.append(Weight(f"{top}encoder.rel_embeddings.weight", (2 * span(c), d), 1, OTHER))
    if "layer_norm" in [x.strip() for x in c.text("norm_rel_ebd", "none").lower().split("|")]:
        loose += norm(f"{top}encoder.LayerNorm", d).weights()
    kernel = c.plain("conv_kernel_size", 0)
    if kernel:  # beside the first layer
        groups = c.plain("conv_groups", 1, least=1)
        loose += Conv(f"{top}encoder.conv.conv", d, d, (kernel,), groups=groups).weights()
        loose += norm(f"{top}encoder.conv.LayerNorm", d).weights()
    fields, pooler = _head(c, suffix, d, width, V)
    return encoder(
        c, suffix, tuple(tables), (layer_of(c, f"{top}encoder.layer.{{i}}", d, L),), V, d, L, pooler,
        extra_weights=tuple(loose), max_positions=int(rows), dropouts=DROPOUTS, **fields,
    )  # fmt: skip


def _head(c: Config, suffix: str, d: Any, width: Any, V: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The fields of the head and the pooler. ``legacy`` false: a head without a matrix of its own."""
    if suffix == "ForMaskedLM":
        legacy = c.flag("legacy", True)
        at, out = ("cls.predictions.transform", "cls.predictions") if legacy else ("lm_predictions.lm_head",) * 2
        tied = c.flag("tie_word_embeddings", True) or not legacy
        inner = width if legacy else d
        dense, bias = Linear(f"{at}.dense", d, inner, True), Extra(f"{out}.bias", (V,), HEAD)
        extras = (dense, norm(f"{at}.LayerNorm", inner), bias)
        head = None if tied else Linear(f"{out}.decoder", width, V, True, role=HEAD)
        return {
            "head": head, "head_extras": extras, "has_head": True, "head_name": f"{out}.decoder",
            "head_bias_tied": legacy, "facts": {"head_act": c.text("hidden_act", "gelu")},
        }, ()  # fmt: skip
    if suffix not in CLASSIFIERS:
        return {}, ()
    if not per_sequence(suffix):
        return {"final": (classifier(suffix, labels(c), d),)}, ()
    wide = c.size("pooler_hidden_size", d)
    return {}, (Linear("pooler.dense", wide, wide, True), classifier(suffix, labels(c), d))
