"""CLIP: a vision tower with a class token and a norm before its layers, a causal text tower, and two projections.

Source: transformers 5, models/clip/modeling_clip.py and configuration_clip.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Extra, Linear, Lookup
from estimator.families.common_encoder import encoder, labels
from estimator.families.common_tower import alone, layer_norm, pair, part, patch_conv, patches, vit_layer, width_of
from estimator.families.towers import ImageGrid, Tower
from estimator.inventory import POSITION


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The vision tower in module ``prefix``."""
    at = f"{prefix}." if prefix else ""
    d, d_ff = c.plain("hidden_size", 768, least=1), c.plain("intermediate_size", 3072, least=1)
    size, patch = pair(c, "image_size", 224), pair(c, "patch_size", 32)
    stem = (
        Extra(f"{at}embeddings.class_embedding", (d,)),
        patch_conv(f"{at}embeddings.patch_embedding", c, d, patch, bias=False),
        Lookup(f"{at}embeddings.position_embedding", patches(size, patch) + 1, d, POSITION),
        layer_norm(f"{at}pre_layrnorm", d),
    )
    layers = vit_layer(
        c, f"{at}encoder.layers.{{i}}", d, d_ff, c.plain("num_hidden_layers", 12, least=1),
        c.text("hidden_act", "quick_gelu"), default_heads=12,
    )  # fmt: skip
    norm = (layer_norm(f"{at}post_layernorm", d),)
    return Tower("vision", stem, (layers,), norm, grid=ImageGrid(size, patch, merge, extra=1, tokens=tokens))


def text_tower(c: Config, prefix: str, projection: int | None = None) -> Architecture:
    """The text tower; ``projection``: width of the projection of one token a sequence, or none."""
    at = f"{prefix}." if prefix else ""
    d, V = c.plain("hidden_size", 512, least=1), c.plain("vocab_size", 49408, least=1)
    L, rows = c.plain("num_hidden_layers", 12, least=1), c.plain("max_position_embeddings", 77, least=1)
    layers = vit_layer(
        c, f"{at}encoder.layers.{{i}}", d, c.plain("intermediate_size", 2048, least=1), L,
        c.text("hidden_act", "quick_gelu"), default_heads=8, causal=True,
    )  # fmt: skip
    tables = (
        Lookup(f"{at}embeddings.token_embedding", V, d),
        Lookup(f"{at}embeddings.position_embedding", rows, d, POSITION),
    )
    pooler = () if projection is None else (Linear("text_projection", d, projection),)
    return encoder(
        c, "Model", tables, (layers,), V, d, L, pooler, final=(layer_norm(f"{at}final_layer_norm", d),),
        max_positions=rows,
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """Either tower alone, with its projection where ``architectures`` says so, or both."""
    kind = c.text("model_type", "")
    named = str((c.items("architectures") or [""])[0])
    width = c.plain("projection_dim", 512, least=1)
    projected = named.endswith("WithProjection")
    if kind == "clip_vision_model":
        alone_seen = tower(c, "vision_model" if projected else "")
        d = width_of(alone_seen)
        return alone(c, alone_seen, (Linear("visual_projection", d, width),) if projected else ())
    if kind == "clip_text_model":
        return text_tower(c, "text_model", width) if projected else text_tower(c, "")
    text, vision = part(c, "text_config", "clip_text_model"), part(c, "vision_config", "clip_vision_model")
    seen = tower(vision, "vision_model")
    d = width_of(seen)
    if named == "CLIPForImageClassification":
        return alone(c, seen, (Linear("classifier", d, labels(c), True),))
    made = text_tower(text, "text_model", width)
    loose: tuple[Any, ...] = tuple(Extra("logit_scale", ()).weights())
    bridge = (Linear("visual_projection", d, width),)
    return made._replace(model_type=kind, towers=(seen._replace(bridge=bridge),), extra_weights=loose)
