"""BART: a post-norm encoder and decoder with learned positions (two rows more than positions) and a shared token table.

Source: transformers 5, models/bart/modeling_bart.py and configuration_bart.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, POSITION, Architecture, Attention, Layer, Linear, Lookup, Weight
from estimator.families.common import gqa, plain_mlp
from estimator.families.common_encoder import built_class, labels, norm

OFFSET = 2  # BartLearnedPositionalEmbedding.offset
DEFAULT_LABELS = 3  # BartConfig's


def attention(c: Config, at: str, d: Any, side: str, **fields: Any) -> Attention:
    """One of BART's attentions: all four projections have biases."""
    h = c.size(f"{side}_attention_heads", 16, letter="num_attention_heads")
    c.divides(h, d, f"{side}_attention_heads", "d_model")
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    position = "none" if fields.get("cross") else "learned"
    return gqa(at, d, h, h, d // h, bias=True, names=names, position=position, softmax="scores", **fields)


def stack(c: Config, top: str, side: str, d: Any, act: str) -> Layer:
    """The layers of one side."""
    at = f"{top}{side}.layers.{{i}}"
    L, d_ff = c.size(f"{side}_layers", 12), c.size(f"{side}_ffn_dim", 4096, letter="intermediate_size")
    decoder = side == "decoder"
    cross = attention(c, f"{at}.encoder_attn", d, side, causal=False, cross=True) if decoder else None
    middle = (norm(f"{at}.encoder_attn_layer_norm", d),) if decoder else ()
    return Layer(
        L, attention(c, f"{at}.self_attn", d, side, causal=decoder), plain_mlp(at, d, d_ff, act),
        (norm(f"{at}.self_attn_layer_norm", d), *middle, norm(f"{at}.final_layer_norm", d)),
        ("post_mixer", *(("post_cross",) if decoder else ()), "post_mlp"),
        wiring="post", cross=cross, side=side,
    )  # fmt: skip


def embedded(top: str, side: str, V: Any | None, rows: Any, d: Any) -> tuple[Any, ...]:
    """One side's positions and the norm over its embeddings; a token table of its own (``V`` rows) where untied."""
    at = f"{top}{side}"
    own = () if V is None else (Lookup(f"{at}.embed_tokens", V, d),)
    return *own, Lookup(f"{at}.embed_positions", rows, d, POSITION), norm(f"{at}.layernorm_embedding", d)


def build(c: Config) -> Architecture:
    """BART from its config; ``architectures`` tells which head it has."""
    default = "ForConditionalGeneration"
    suffix = built_class(c, "Bart", default, ("Model", "ForSequenceClassification", "ForQuestionAnswering"))
    top = "" if suffix == "Model" else "model."
    d = c.size("d_model|hidden_size", 1024, letter="hidden_size")
    V, rows = c.size("vocab_size", 50265), c.size("max_position_embeddings", 1024) + OFFSET
    act = c.text("activation_function", "gelu")
    layers = (stack(c, top, "encoder", d, act), stack(c, top, "decoder", d, act))
    tied, predicts = c.flag("tie_word_embeddings", True), suffix == default
    own = None if tied else V
    final: tuple[Any, ...] = ()
    pooler: tuple[Any, ...] = ()
    if suffix == "ForSequenceClassification":
        at, n = "classification_head", labels(c, DEFAULT_LABELS)
        pooler = (Linear(f"{at}.dense", d, d, True), Linear(f"{at}.out_proj", d, n, True))
    elif suffix == "ForQuestionAnswering":
        final = (Linear("qa_outputs", d, 2, True),)
    return Architecture(
        model_type="bart",
        embeddings=(Lookup(f"{top}shared", V, d), *embedded(top, "decoder", own, rows, d)),
        encoder_embeddings=embedded(top, "encoder", own, rows, d),
        layers=layers, final=final, pooler=pooler,
        head=Linear("lm_head", d, V, role=HEAD) if predicts and not tied else None,
        tied=predicts and tied, has_head=predicts,
        vocab=V, hidden=d, num_layers=layers[1].times, kind="encoder-decoder",
        max_positions=int(rows) - OFFSET,
        buffers=(Weight("final_logits_bias", (1, V)),) if predicts else (),
        facts={"class": suffix, "embed_scale": c.flag("scale_embedding", False)}, residual_dropout=("dropout", 0.1),
    )  # fmt: skip
