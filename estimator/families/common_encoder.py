"""What BERT-like encoders share: which class is built, the post-norm layer, and the heads of every class.

Source: transformers 5, models/bert/modeling_bert.py and models/roberta/modeling_roberta.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import (
    HEAD,
    MLP,
    POSITION,
    TOKEN_TYPE,
    Architecture,
    Attention,
    Extra,
    Layer,
    Linear,
    Lookup,
    Norm,
)
from estimator.families.common import gqa

CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
PREDICTING = ("ForMaskedLM", "ForCausalLM")  # with a language model's head, but for BERT's own


def built_class(c: Config, stem: str, default: str, others: Iterable[str]) -> str:
    """The class that ``architectures`` names, without its stem: "Model", "ForMaskedLM" ...

    Absent: ``default``, with a note, since heads and poolers differ in their weights.
    """
    named = c.items("architectures")
    known = (default, *others)
    if not named:
        c.notes.append(f"architectures missing; counted as {stem}{default}")
        return default
    suffix = str(named[0]).removeprefix(stem)
    if f"{stem}{suffix}" != named[0] or suffix not in known:
        names = ", ".join(stem + k for k in known)
        raise InputError(f"{c.where}: architectures names {str(named[0])[:60]!r}; described are {names}")
    return suffix


def labels(c: Config, default: int = 2) -> int:
    """Number of classes of a classifier: the length of ``id2label``, else ``num_labels``."""
    names = c.raw.get("id2label")
    return len(names) if isinstance(names, dict) and names else c.plain("num_labels", default, least=1)


def norm(name: str, width: Any) -> Norm:
    """A torch LayerNorm with weight and bias."""
    return Norm(name, width, "layer", True)


def classifier(suffix: str, count: int, d: Any) -> Linear:
    """The output layer of a class of :data:`CLASSIFIERS`."""
    name = "qa_outputs" if suffix == "ForQuestionAnswering" else "classifier"
    return Linear(name, d, 1 if suffix == "ForMultipleChoice" else count, True)


def per_sequence(suffix: str) -> bool:
    """True where the class's output layer sees one token a sequence, not all."""
    return suffix in ("ForSequenceClassification", "ForMultipleChoice", "ForNextSentencePrediction")


def embedding_tables(c: Config, at: str, V: Any, width: Any, types: int, positions: int) -> tuple[Any, ...]:
    """Token, position and token-type tables of ``width``, and their LayerNorm; the numbers are the class's defaults."""
    rows = c.size("max_position_embeddings", positions)
    return (
        Lookup(f"{at}.word_embeddings", V, width),
        Lookup(f"{at}.position_embeddings", rows, width, POSITION),
        Lookup(f"{at}.token_type_embeddings", c.size("type_vocab_size", types), width, TOKEN_TYPE),
        norm(f"{at}.LayerNorm", width),
    )


def bert_attention(at: str, d: Any, h: Any, **fields: Any) -> Attention:
    """BERT's attention under ``at``: ``self.query`` and so on, ``output.dense``; positions are in the embeddings."""
    names = ("self.query", "self.key", "self.value", "output.dense")
    return gqa(at, d, h, h, d // h, bias=True, names=names, position="learned", softmax="scores", **fields)


def bert_mlp(c: Config, layer: str, d: Any, d_ff: Any) -> MLP:
    """BERT's MLP [d -> d_ff -> d], with biases."""
    return MLP(
        (Linear(f"{layer}.intermediate.dense", d, d_ff, True), Linear(f"{layer}.output.dense", d_ff, d, True)),
        d_ff, c.text("hidden_act", "gelu"), gated=False,
    )  # fmt: skip


def bert_layer(c: Config, layer: str, d: Any, L: Any) -> Layer:
    """BERT's post-norm layer; causal and with a second attention where the config makes a decoder of it."""
    h, d_ff = c.size("num_attention_heads", 12), c.size("intermediate_size", 3072)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    causal, crossed = c.flag("is_decoder", False), c.flag("add_cross_attention", False)
    if crossed and not causal:
        raise InputError(f"{c.where}: add_cross_attention needs is_decoder")
    cross = bert_attention(f"{layer}.crossattention", d, h, causal=False, cross=True) if crossed else None
    middle = (norm(f"{layer}.crossattention.output.LayerNorm", d),) if crossed else ()
    return Layer(
        L, bert_attention(f"{layer}.attention", d, h, causal=causal), bert_mlp(c, layer, d, d_ff),
        (norm(f"{layer}.attention.output.LayerNorm", d), *middle, norm(f"{layer}.output.LayerNorm", d)),
        ("post_mixer", *(("post_cross",) if crossed else ()), "post_mlp"),
        wiring="post", cross=cross, side="decoder" if causal else "encoder",
    )  # fmt: skip


def prediction_head(dense: str, out: str, decoder: str, d_in: Any, width: Any, V: Any, tied: bool) -> dict[str, Any]:
    """A masked-language-model head: a dense layer with activation and LayerNorm (``dense``, ``out``), then
    ``decoder`` [width -> V], tied to the token table or not, and the output bias beside it.
    """
    bias = f"{decoder.rpartition('.')[0]}.bias"
    return {
        "head": None if tied else Linear(decoder, width, V, True, role=HEAD),
        "head_extras": (Linear(dense, d_in, width, True), norm(out, width), Extra(bias, (V,), HEAD)),
        "has_head": True,
        "head_name": decoder,
        "head_bias_tied": True,
    }


DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # 0.1 where BertConfig and its like are silent


def encoder(
    c: Config,
    suffix: str,
    embeddings: tuple[Any, ...],
    layers: tuple[Layer, ...],
    V: Any,
    d: Any,
    L: Any,
    pooler: tuple[Any, ...] = (),
    **fields: Any,
) -> Architecture:
    """The whole model; without ``has_head`` in ``fields`` it ends in hidden states, or in a classifier's scores."""
    causal = layers[0].side == "decoder"
    fields.setdefault("has_head", False)
    facts = {"class": suffix, **fields.pop("facts", {})}
    return Architecture(
        model_type=c.text("model_type", ""),
        embeddings=embeddings,
        layers=layers,
        final=fields.pop("final", ()),
        head=fields.pop("head", None),
        tied=fields["has_head"] and c.flag("tie_word_embeddings", True),
        vocab=V, hidden=d, num_layers=L, pooler=pooler, facts=facts,
        kind="decoder" if causal else "encoder",
        **fields,
    )  # fmt: skip


def roberta_heads(c: Config, suffix: str, top: str, d: Any, V: Any) -> tuple[tuple[Linear, ...], dict[str, Any]]:
    """(pooler, fields of :func:`encoder`) of RoBERTa's classes and of those with its heads."""
    pooler = [Linear(f"{top}pooler.dense", d, d, True)] if suffix in ("Model", "ForMultipleChoice") else []
    fields: dict[str, Any] = {}
    if suffix in PREDICTING:
        tied = c.flag("tie_word_embeddings", True)
        fields = prediction_head("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", d, d, V, tied)
        fields["facts"] = {"head_act": "gelu"}
    elif suffix == "ForSequenceClassification":
        pooler += [Linear("classifier.dense", d, d, True), Linear("classifier.out_proj", d, labels(c), True)]
    elif suffix == "ForMultipleChoice":
        pooler.append(classifier(suffix, 1, d))
    elif suffix in CLASSIFIERS:
        fields["final"] = (classifier(suffix, labels(c), d),)
    return tuple(pooler), fields
