"""BART and its kin: an encoder and a decoder with a shared token table, where a second attention reads the encoder.

What differs: norms after the branches (BART, Marian) or before them, with a last norm on each side (mBART, M2M-100,
Pegasus, Whisper); positions learned, with two rows more than positions (BART, mBART), as a stored table of sines
(Marian, Pegasus), or computed (M2M-100); a norm over the embeddings; a stored bias of the logits.
Source: transformers 5, models/bart, mbart, m2m_100, marian and pegasus, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, POSITION, Architecture, Attention, Layer, Linear, Lookup, Weight
from estimator.families.common import gqa, plain_mlp
from estimator.families.common_encoder import built_class, labels, norm
from estimator.records import NamedTuple

DEFAULT_LABELS = 3  # BartConfig's


class BartKind(NamedTuple):
    """One model_type.

    stem, main     of its class names: what they begin with, and what the class with a head ends with
    V, act, scaled   the class's vocabulary, activation, and whether embeddings are scaled, by default
    pre            norms before the branches
    rows           rows of the position table beyond the positions, or None where positions are computed
    embedding_norm, logits_bias   whether it has them
    """

    stem: str
    V: int
    pre: bool
    rows: int | None
    embedding_norm: bool
    logits_bias: bool = True
    scaled: bool = False
    act: str = "gelu"
    dropouts: tuple[str, ...] = ("dropout",)
    main: str = "ForConditionalGeneration"


KINDS = {
    "bart": BartKind("Bart", 50265, pre=False, rows=2, embedding_norm=True),
    "mbart": BartKind("MBart", 50265, pre=True, rows=2, embedding_norm=True),
    "m2m_100": BartKind(
        "M2M100", 128112, pre=True, rows=None, embedding_norm=False, logits_bias=False, scaled=True, act="relu",
        dropouts=("dropout", "attention_dropout"),
    ),
    "marian": BartKind("Marian", 58101, pre=False, rows=0, embedding_norm=False, main="MTModel"),
    "pegasus": BartKind("Pegasus", 50265, pre=True, rows=0, embedding_norm=False),
}


def attention(
    c: Config, at: str, d: Any, side: str, heads: int = 16, key_bias: bool = True, **fields: Any
) -> Attention:
    """One of BART's attentions: all four projections have biases. ``key_bias`` False: Whisper's, whose keys have
    none."""
    h = c.size(f"{side}_attention_heads", heads, letter="num_attention_heads")
    c.divides(h, d, f"{side}_attention_heads", "d_model")
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    position = "none" if fields.get("cross") else "learned"
    made = gqa(at, d, h, h, d // h, bias=True, names=names, position=position, softmax="scores", **fields)
    if key_bias:
        return made
    q, k, v = made.projections
    return made._replace(projections=(q, k._replace(bias=False), v), query_scale="projected", copied=True)


def stack(
    c: Config,
    top: str,
    side: str,
    d: Any,
    act: str,
    pre: bool,
    depth: int = 12,
    inner: int = 4096,
    heads: int = 16,
    key_bias: bool = True,
) -> Layer:
    """The layers of one side; the numbers are the class's defaults."""
    at = f"{top}{side}.layers.{{i}}"
    L, d_ff = c.size(f"{side}_layers", depth), c.size(f"{side}_ffn_dim", inner, letter="intermediate_size")
    decoder, role = side == "decoder", "pre" if pre else "post"
    own = attention(c, f"{at}.self_attn", d, side, heads, key_bias, causal=decoder)
    cross = None
    if decoder:
        cross = attention(c, f"{at}.encoder_attn", d, side, heads, key_bias, causal=False, cross=True)
    middle = (norm(f"{at}.encoder_attn_layer_norm", d),) if decoder else ()
    roles = ("input" if pre else "post_mixer", *((f"{role}_cross",) if decoder else ()), f"{role}_mlp")
    return Layer(
        L, own, plain_mlp(at, d, d_ff, act),
        (norm(f"{at}.self_attn_layer_norm", d), *middle, norm(f"{at}.final_layer_norm", d)), roles,
        wiring=role, cross=cross, side=side,
    )  # fmt: skip


def embedded(top: str, side: str, V: Any | None, rows: Any, d: Any, with_norm: bool) -> tuple[Any, ...]:
    """One side's positions and the norm over its embeddings; a token table of its own (``V`` rows) where untied."""
    at = f"{top}{side}"
    own = () if V is None else (Lookup(f"{at}.embed_tokens", V, d),)
    table = () if rows is None else (Lookup(f"{at}.embed_positions", rows, d, POSITION),)
    return *own, *table, *((norm(f"{at}.layernorm_embedding", d),) if with_norm else ())


def build(c: Config) -> Architecture:
    """The model from its config; ``architectures`` tells which head it has."""
    kind = KINDS[c.text("model_type", "")]
    others = ("Model", "ForSequenceClassification", "ForQuestionAnswering") if kind.main != "MTModel" else ("Model",)
    suffix = built_class(c, kind.stem, kind.main, others)
    top = "" if suffix == "Model" else "model."
    d = c.size("d_model|hidden_size", 1024, letter="hidden_size")
    V, positions = c.size("vocab_size", kind.V), c.size("max_position_embeddings", 1024)
    rows = None if kind.rows is None else positions + kind.rows
    act = c.text("activation_function", kind.act)
    layers = tuple(stack(c, top, side, d, act, kind.pre) for side in ("encoder", "decoder"))
    tied, predicts = c.flag("tie_word_embeddings", True), suffix == kind.main
    own = None if tied else V
    apart = kind.main == "MTModel" and not c.flag("share_encoder_decoder_embeddings", True)
    said = c.size("decoder_vocab_size", V, letter="vocab_size") if apart else V  # words of the decoder
    last = {side: (norm(f"{top}{side}.layer_norm", d),) if kind.pre else () for side in ("encoder", "decoder")}
    final: tuple[Any, ...] = last["decoder"]
    pooler: tuple[Any, ...] = ()
    if suffix == "ForSequenceClassification":
        at, n = "classification_head", labels(c, DEFAULT_LABELS if kind.stem == "Bart" else 2)
        pooler = (Linear(f"{at}.dense", d, d, True), Linear(f"{at}.out_proj", d, n, True))
    elif suffix == "ForQuestionAnswering":
        final = (*final, Linear("qa_outputs", d, 2, True))
    return Architecture(
        model_type=c.text("model_type", ""),
        embeddings=(
            *(() if apart else (Lookup(f"{top}shared", V, d),)),
            *embedded(top, "decoder", said if apart else own, rows, d, kind.embedding_norm),
        ),
        encoder_embeddings=embedded(top, "encoder", V if apart else own, rows, d, kind.embedding_norm),
        encoder_final=last["encoder"],
        layers=layers, final=final, pooler=pooler,
        head=Linear("lm_head", d, said, role=HEAD) if predicts and not tied else None,
        tied=predicts and tied, has_head=predicts,
        vocab=said, hidden=d, num_layers=layers[1].times, kind="encoder-decoder",
        max_positions=int(positions),
        buffers=(Weight("final_logits_bias", (1, said)),) if predicts and kind.logits_bias else (),
        facts={
            "class": suffix, "drops": {"embedding": "dropout"}, "embed_scale": c.flag("scale_embedding", kind.scaled),
        },
        residual_dropout=("dropout", 0.1), dropouts=kind.dropouts,
    )  # fmt: skip
