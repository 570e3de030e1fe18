"""wav2vec 2.0 and HuBERT: convolutions over the samples of sound, a convolution for positions, BERT-like layers.

Source: transformers 5, models/wav2vec2 and hubert, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from math import prod
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Extra, Layer, Linear, Norm
from estimator.families.common import gqa
from estimator.families.common_encoder import built_class, encoder, labels, norm
from estimator.families.towers import Conv

STEMS = {"wav2vec2": ("Wav2Vec2", "wav2vec2"), "hubert": ("Hubert", "hubert")}
CHANNELS, KERNELS, STRIDES = (512,) * 7, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
SUFFIXES = ("ForCTC", "ForSequenceClassification")


def _list(c: Config, name: str, default: tuple[int, ...]) -> list[int]:
    """A list of sizes, as long as ``conv_dim``."""
    given = c.items(name) or list(default)
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in given):
        raise InputError(f"{c.where}: {name} must be a list of sizes, got {str(given)[:40]!r}")
    if name != "conv_dim" and len(given) != len(_list(c, "conv_dim", CHANNELS)):
        raise InputError(f"{c.where}: {name} must be as long as conv_dim, got {len(given)}")
    return given


def ears(c: Config, at: str, d: int) -> tuple[Any, ...]:
    """The convolutions over samples with their norms, and the projection to the layers' width."""
    dims, kernels = _list(c, "conv_dim", CHANNELS), _list(c, "conv_kernel", KERNELS)
    strides, bias = _list(c, "conv_stride", STRIDES), c.flag("conv_bias", False)
    kind = c.text("feat_extract_norm", "group")
    if kind not in ("group", "layer"):
        raise InputError(f"{c.where}: feat_extract_norm must be group or layer, got {kind[:40]!r}")
    parts: list[Any] = []
    for i, (n, kernel) in enumerate(zip(dims, kernels, strict=True)):
        layer = f"{at}feature_extractor.conv_layers.{i}"
        rows = prod(strides[i + 1 :])
        parts.append(Conv(f"{layer}.conv", dims[i - 1] if i else 1, n, (kernel,), bias, rows, steps=strides[i]))
        if kind == "layer" or i == 0:
            parts.append(norm(f"{layer}.layer_norm", n))
    if c.flag("feat_proj_layer_norm", True):
        parts.append(norm(f"{at}feature_projection.layer_norm", dims[-1]))
    return *parts, Linear(f"{at}feature_projection.projection", dims[-1], d, True)


def positions(c: Config, at: str, d: int) -> tuple[Any, ...]:
    """The grouped convolution that stands for positions; its weight is stored as a direction and a length."""
    name = f"{at}encoder.pos_conv_embed.conv"
    kernel = c.plain("num_conv_pos_embeddings", 128, least=1)
    groups = c.plain("num_conv_pos_embedding_groups", 16, least=1)
    c.divides(groups, d, "num_conv_pos_embedding_groups", "hidden_size")
    if c.flag("conv_pos_batch_norm", False):
        batch = Norm(f"{at}encoder.pos_conv_embed.batch_norm", d, "layer", True)
        return Conv(name, d, d, (kernel,), groups=groups, steps=1), batch
    at = f"{name}.parametrizations.weight"
    return (
        Extra(f"{at}.original0", (1, 1, kernel)), Extra(f"{at}.original1", (d, d // groups, kernel)),
        Extra(f"{name}.bias", (d,)),
    )  # fmt: skip


def layer_of(c: Config, at: str, d: int, L: int, before: bool) -> Layer:
    """A layer with norms before the branches, or after them."""
    h, d_ff = c.plain("num_attention_heads", 12, least=1), c.plain("intermediate_size", 3072, least=1)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    attention = gqa(
        f"{at}.attention", d, h, h, d // h, bias=True, names=("q_proj", "k_proj", "v_proj", "out_proj"),
        position="learned", causal=False,
    )  # fmt: skip
    ff = f"{at}.feed_forward"
    mlp = MLP(
        (Linear(f"{ff}.intermediate_dense", d, d_ff, True), Linear(f"{ff}.output_dense", d_ff, d, True)),
        d_ff, c.text("hidden_act", "gelu"), gated=False,
    )  # fmt: skip
    roles = ("input", "pre_mlp") if before else ("post_mixer", "post_mlp")
    extras: tuple[Any, ...] = ()
    narrow = c.plain("adapter_attn_dim", 0) if before else 0
    if narrow:
        own = f"{at}.adapter_layer"
        extras = (
            norm(f"{own}.norm", d), Linear(f"{own}.linear_1", d, narrow, True),
            Linear(f"{own}.linear_2", narrow, d, True),
        )  # fmt: skip
    return Layer(
        L, attention, mlp, (norm(f"{at}.layer_norm", d), norm(f"{at}.final_layer_norm", d)), roles,
        wiring="pre" if before else "post", side="encoder", extras=extras,
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """The encoder from its config; ``architectures`` tells which head it has."""
    stem, module = STEMS[c.text("model_type", "")]
    suffix = built_class(c, stem, "Model", (*SUFFIXES, *(("ForPreTraining",) if stem == "Wav2Vec2" else ())))
    at = "" if suffix == "Model" else f"{module}."
    d, L = c.plain("hidden_size", 768, least=1), c.plain("num_hidden_layers", 12, least=1)
    before = c.flag("do_stable_layer_norm", False)
    masked = c.number("mask_time_prob", 0.05) > 0 or c.number("mask_feature_prob", 0.0) > 0
    spec = (Extra(f"{at}masked_spec_embed", (d,)),) if masked else ()
    last = norm(f"{at}encoder.layer_norm", d)
    stem_parts = (*ears(c, at, d), *spec, *positions(c, at, d), *(() if before else (last,)))
    width = d
    final: list[Any] = [last] if before else []
    if stem == "Wav2Vec2" and c.flag("add_adapter", False):
        width = c.plain("output_hidden_size", d) or d
        if width != d:
            final += [Linear(f"{at}adapter.proj", d, width, True), norm(f"{at}adapter.proj_layer_norm", width)]
        kernel = c.plain("adapter_kernel_size", 3, least=1)
        for i in range(c.plain("num_adapter_layers", 3)):
            final.append(Conv(f"{at}adapter.layers.{i}.conv", width, 2 * width, (kernel,)))
    pooler: tuple[Any, ...] = ()
    if suffix == "ForCTC":
        final.append(Linear("lm_head", width, c.plain("vocab_size", 32, least=1), True))
    elif suffix == "ForSequenceClassification":
        inner = c.plain("classifier_proj_size", 256, least=1)
        if c.flag("use_weighted_layer_sum", False):
            final.append(Extra("layer_weights", (L + 1,)))
        final.append(Linear("projector", d, inner, True))
        pooler = (Linear("classifier", inner, labels(c), True),)
    elif suffix == "ForPreTraining":
        final += _quantizer(c, d)
    layers = (layer_of(c, f"{at}encoder.layers.{{i}}", d, L, before),)
    return encoder(c, suffix, stem_parts, layers, 0, d, L, pooler, final=tuple(final))


def _quantizer(c: Config, d: int) -> list[Any]:
    """What pre-training compares the layers' output with."""
    groups, each = c.plain("num_codevector_groups", 2, least=1), c.plain("num_codevectors_per_group", 320, least=1)
    width, out = c.plain("codevector_dim", 256, least=1), c.plain("proj_codevector_dim", 256, least=1)
    c.divides(groups, width, "num_codevector_groups", "codevector_dim")
    read = _list(c, "conv_dim", CHANNELS)[-1]
    return [
        Extra("quantizer.codevectors", (1, groups * each, width // groups)),
        Linear("quantizer.weight_proj", read, groups * each, True),
        Linear("project_hid", d, out, True), Linear("project_q", width, out, True),
    ]  # fmt: skip
