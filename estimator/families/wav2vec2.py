"""wav2vec 2.0, HuBERT and WavLM: convolutions over the samples of sound, a convolution for positions, BERT-like layers.

WavLM's layers gate a bias of relative positions, which the first makes for all.
Source: transformers 5, models/wav2vec2, hubert and wavlm, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from math import prod
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Extra, Layer, Linear, Norm
from estimator.families.common import gqa
from estimator.families.common_encoder import built_class, encoder, labels, norm
from estimator.families.towers import Conv

STEMS = {"wav2vec2": ("Wav2Vec2", "wav2vec2"), "hubert": ("Hubert", "hubert"), "wavlm": ("WavLM", "wavlm")}
CHANNELS, KERNELS, STRIDES = (512,) * 7, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
SUFFIXES = ("ForCTC", "ForSequenceClassification")
MORE = ("ForXVector", "ForAudioFrameClassification")  # not HuBERT
GATES = 8  # outputs of WavLM's gate a head and token
TDNN = (512, 512, 512, 512, 1500)


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


def gated_positions(c: Config, made: Attention, first: bool) -> Attention:
    """WavLM's: a bias of relative positions, which each head of each token gates; its table stands in layer 0."""
    at, h = made.out.name.rpartition(".")[0], made.heads
    extras = [Extra(f"{at}.gru_rel_pos_const", (1, h, 1, 1))]
    if first:
        extras.append(Extra(f"{at}.rel_attn_embed.weight", (c.plain("num_buckets", 320, least=1), h)))
    gate = Linear(f"{at}.gru_rel_pos_linear", made.head_dim, GATES, True)
    return made._replace(
        projections=(*made.projections, gate), extras=tuple(extras), form="gated_positions", sdpa=False
    )  # fmt: skip


def layers_of(c: Config, at: str, d: int, L: int, before: bool) -> tuple[Layer, ...]:
    """The stack; WavLM's first layer has what the others read."""
    one = layer_of(c, at, d, L, before)
    if c.text("model_type", "") != "wavlm":
        return (one,)
    assert isinstance(one.mixer, Attention)
    groups = [(True, (0,))] + ([(False, tuple(range(1, L)))] if L > 1 else [])
    return tuple(
        one._replace(times=len(where), indices=where, mixer=gated_positions(c, one.mixer, first))
        for first, where in groups
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
    more = (*(MORE if stem != "Hubert" else ()), *(("ForPreTraining",) if stem == "Wav2Vec2" else ()))
    suffix = built_class(c, stem, "Model", (*SUFFIXES, *more))
    at = "" if suffix == "Model" else f"{module}."
    d, L = c.plain("hidden_size", 768, least=1), c.plain("num_hidden_layers", 12, least=1)
    before = c.flag("do_stable_layer_norm", False)
    masked = c.number("mask_time_prob", 0.05) > 0 or c.number("mask_feature_prob", 0.0) > 0
    spec = (Extra(f"{at}masked_spec_embed", (d,)),) if masked else ()
    last = norm(f"{at}encoder.layer_norm", d)
    stem_parts = (*ears(c, at, d), *spec, *positions(c, at, d), *(() if before else (last,)))
    width = d
    final: list[Any] = [last] if before else []
    if stem != "Hubert" and c.flag("add_adapter", False):
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
    elif suffix in MORE:
        if c.flag("use_weighted_layer_sum", False):
            final.append(Extra("layer_weights", (L + 1,)))
        if suffix == "ForXVector":
            heard, pooler = _speaker(c, d)
            final += heard
        else:
            final.append(Linear("classifier", d, labels(c), True))
    elif suffix == "ForPreTraining":
        final += _quantizer(c, d)
    layers = layers_of(c, f"{at}encoder.layers.{{i}}", d, L, before)
    return encoder(c, suffix, stem_parts, layers, 0, d, L, pooler, final=tuple(final))


def _speaker(c: Config, d: int) -> tuple[list[Any], tuple[Linear, ...]]:
    """What the head for speakers' vectors runs for every frame, and for a sequence."""
    dims, kernels = c.items("tdnn_dim") or list(TDNN), c.items("tdnn_kernel") or [5, 3, 3, 1, 1]
    sizes = [*dims, *kernels]
    if len(dims) != len(kernels) or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sizes):
        raise InputError(f"{c.where}: tdnn_dim and tdnn_kernel must be equally long lists of sizes")
    out = c.plain("xvector_output_dim", 512, least=1)
    frames: list[Any] = [Linear("projector", d, dims[0], True)]
    frames += [
        Linear(f"tdnn.{i}.kernel", dims[max(i - 1, 0)] * kernel, dims[i], True) for i, kernel in enumerate(kernels)
    ]
    frames.append(Extra("objective.weight", (out, labels(c))))
    return frames, (Linear("feature_extractor", 2 * dims[-1], out, True), Linear("classifier", out, out, True))


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
