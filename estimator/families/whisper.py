"""Whisper: an encoder of a fixed window of sound behind two convolutions, and a decoder of text.

30 seconds of sound are 3,000 frames of a spectrogram; the second convolution halves them to ``max_source_positions``.
Source: transformers 5, models/whisper/modeling_whisper.py and configuration_whisper.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.bart import stack
from estimator.families.base import HEAD, POSITION, Architecture, Extra, Linear, Lookup
from estimator.families.common_encoder import built_class, labels, norm
from estimator.families.towers import Conv

KERNEL = 3  # frames that each of both convolutions reads


def build(c: Config) -> Architecture:
    """Whisper from its config; ``architectures`` tells which head it has."""
    default = "ForConditionalGeneration"
    suffix = built_class(c, "Whisper", default, ("Model", "ForAudioClassification"))
    top = "model." if suffix == default else ""
    d, V = c.size("d_model|hidden_size", 384, letter="hidden_size"), c.size("vocab_size", 51865)
    heard, act = c.size("max_source_positions", 1500), c.text("activation_function", "gelu")
    said = c.size("max_target_positions", 448)
    sides = ("encoder",) if suffix == "ForAudioClassification" else ("encoder", "decoder")
    layers = tuple(stack(c, top, side, d, act, True, 4, 1536, 6, key_bias=False) for side in sides)
    ears = (
        Conv(f"{top}encoder.conv1", c.size("num_mel_bins", 80), d, (KERNEL,), rows=2, steps=1),
        Conv(f"{top}encoder.conv2", d, d, (KERNEL,), steps=2),
        Lookup(f"{top}encoder.embed_positions", heard, d, POSITION),
    )
    last = {side: (norm(f"{top}{side}.layer_norm", d),) for side in sides}
    facts: dict[str, Any] = {
        "class": suffix, "drops": {"embedding": "dropout"}, "embed_scale": c.flag("scale_embedding", False),
    }  # fmt: skip
    if suffix == "ForAudioClassification":
        width = c.size("classifier_proj_size", 256)
        summed = c.flag("use_weighted_layer_sum", False)
        weights = (Extra("layer_weights", (layers[0].times + 1,)),) if summed else ()
        return Architecture(
            model_type="whisper", embeddings=ears, layers=layers, head=None, tied=False, has_head=False, vocab=0,
            final=(*last["encoder"], *weights, Linear("projector", d, width, True)),
            pooler=(Linear("classifier", width, labels(c), True),), hidden=d, num_layers=layers[0].times,
            kind="encoder", facts=facts, max_positions=int(heard),
        )  # fmt: skip
    tied, predicts = c.flag("tie_word_embeddings", True), suffix == default
    return Architecture(
        model_type="whisper",
        embeddings=(
            Lookup(f"{top}decoder.embed_tokens", V, d), Lookup(f"{top}decoder.embed_positions", said, d, POSITION),
        ),
        encoder_embeddings=ears, encoder_final=last["encoder"], layers=layers, final=last["decoder"],
        head=Linear("proj_out", d, V, role=HEAD) if predicts and not tied else None, head_name="proj_out",
        tied=predicts and tied, has_head=predicts, vocab=V, hidden=d, num_layers=layers[1].times,
        kind="encoder-decoder", max_positions=int(said), encoder_tokens=heard, facts=facts,
        residual_dropout=("dropout", 0.0),
    )  # fmt: skip
