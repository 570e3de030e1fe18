"""ViT: patches, a class token, learned positions and pre-norm layers (arXiv:2010.11929).

Source: transformers 5, models/vit/modeling_vit.py and configuration_vit.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Extra, Linear
from estimator.families.common_encoder import built_class, labels
from estimator.families.common_tower import alone, layer_norm, pair, patch_conv, patches, vit_layer
from estimator.families.towers import Conv, ImageGrid, Tower


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The layers with their embeddings and last norm, in module ``prefix``."""
    at = f"{prefix}." if prefix else ""
    d = c.plain("hidden_size", 768, least=1)
    size, patch = pair(c, "image_size", 224), pair(c, "patch_size", 16)
    stem = (
        Extra(f"{at}embeddings.cls_token", (1, 1, d)),
        Extra(f"{at}embeddings.position_embeddings", (1, patches(size, patch) + 1, d)),
        patch_conv(f"{at}embeddings.patch_embeddings.projection", c, d, patch),
    )
    layers = vit_layer(
        c, f"{at}layers.{{i}}", d, c.plain("intermediate_size", 3072, least=1),
        c.plain("num_hidden_layers", 12, least=1), c.text("hidden_act", "gelu"), default_heads=12, attn="attention",
        names=("q_proj", "k_proj", "v_proj", "o_proj"), bias=c.flag("qkv_bias", True),
        norms=("layernorm_before", "layernorm_after"),
    )  # fmt: skip
    final = (layer_norm(f"{at}layernorm", d),)
    return Tower("vision", stem, (layers,), final, grid=ImageGrid(size, patch, merge, extra=1, tokens=tokens))


def build(c: Config) -> Architecture:
    """ViT from its config; ``architectures`` tells which head it has."""
    suffix = built_class(c, "ViT", "Model", ("ForImageClassification", "ForMaskedImageModeling"))
    d = c.plain("hidden_size", 768, least=1)
    if suffix == "Model":
        width = c.plain("pooler_output_size", 0) or d
        return alone(c, tower(c, ""), (Linear("pooler.dense", d, width, True),))
    made = tower(c, "vit")
    if suffix == "ForImageClassification":
        return alone(c, made, (Linear("classifier", d, labels(c), True),), facts={"class": suffix})
    pixels = c.plain("encoder_stride", 16, least=1) ** 2 * c.plain("num_channels", 3, least=1)
    stem: tuple[Any, ...] = (*made.stem, Extra("vit.embeddings.mask_token", (1, 1, d)))
    final = (*made.final, Conv("decoder.0", d, pixels, (1, 1)))
    return alone(c, made._replace(stem=stem, final=final), facts={"class": suffix})
