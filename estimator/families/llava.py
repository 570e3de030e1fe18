"""LLaVA, LLaVA-NeXT and LLaVA-OneVision: a tower, a projector of two matrices, and any text model.

LLaVA-NeXT cuts large images into tiles and keeps a learned end of line; so does LLaVA-OneVision, with SigLIP.
Source: transformers 5, models/llava, llava_next, llava_next_video, llava_onevision and vipllava, modeling_*.py and
configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Extra
from estimator.families.common_tower import (
    either_tied,
    feature_layers,
    layer_norm,
    part,
    text_model,
    tower_of,
    two_layers,
    width_of,
    wrapped,
)
from estimator.records import NamedTuple

CLIP_L = {
    "intermediate_size": 4096, "hidden_size": 1024, "patch_size": 14, "image_size": 336, "num_hidden_layers": 24,
    "num_attention_heads": 16,
}  # fmt: skip
SIGLIP = {
    "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14, "image_size": 384, "num_hidden_layers": 26,
    "num_attention_heads": 16, "vision_use_head": False,
}  # fmt: skip


class LlavaKind(NamedTuple):
    """What tells the types apart: the parts' types, what an absent tower is, a learned end of line, whether the head
    may be tied by the text's config too; VipLLaVA reads five layers through a norm."""

    text: str
    vision: str
    absent: dict[str, Any]
    newline: bool = False
    either: bool = True
    five: bool = False


KINDS = {
    "llava": LlavaKind("llama", "clip_vision_model", CLIP_L),
    "llava_next": LlavaKind("llama", "clip_vision_model", CLIP_L, newline=True, either=False),
    "llava_next_video": LlavaKind("llama", "clip_vision_model", CLIP_L, newline=True, either=False),
    "llava_onevision": LlavaKind("qwen2", "siglip_vision_model", SIGLIP, newline=True),
    "vipllava": LlavaKind("llama", "clip_vision_model", CLIP_L, either=False, five=True),
}


def build(c: Config) -> Architecture:
    """The whole model."""
    kind = KINDS[c.text("model_type", "")]
    text, vision = part(c, "text_config", kind.text), part(c, "vision_config", kind.vision, kind.absent)
    tied = either_tied(c, text, False) if kind.either else c.flag("tie_word_embeddings", False)
    made, seen = text_model(c, text, tied), tower_of(vision, "model.vision_tower")
    at = "model.multi_modal_projector"
    if kind.five:
        layers = c.items("vision_feature_layers")
        wide = width_of(seen) * (5 if layers is None else len(layers))
        norm: tuple[Any, ...] = (layer_norm(f"{at}.projector_layernorm", wide),)
    else:
        wide, norm = width_of(seen) * feature_layers(c), ()
    bias = c.flag("multimodal_projector_bias", True) or kind.five
    newline = (Extra("model.image_newline", (made.hidden,)),) if kind.newline else ()
    bridge = (*newline, *norm, *two_layers(at, wide, made.hidden, bias))
    return wrapped(c, made, (seen._replace(bridge=bridge),))
