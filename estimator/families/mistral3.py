"""Mistral 3 (Small 3.1 and its like): a Pixtral tower, a merger of squares of patches, a projector, and a Mistral.

Source: transformers 5, models/mistral3/modeling_mistral3.py and configuration_mistral3.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Linear, Norm
from estimator.families.common_tower import (
    feature_layers,
    part,
    text_model,
    tower_of,
    two_layers,
    width_of,
    wrapped,
)

TEXT: dict[str, Any] = {
    "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768, "num_attention_heads": 32,
    "num_hidden_layers": 40, "num_key_value_heads": 8, "sliding_window": None, "vocab_size": 131072,
}  # fmt: skip
VISION = {
    "intermediate_size": 4096, "hidden_size": 1024, "patch_size": 14, "image_size": 1540, "num_hidden_layers": 24,
    "num_attention_heads": 16,
}  # fmt: skip


def build(c: Config) -> Architecture:
    """The whole model."""
    text, vision = part(c, "text_config", "mistral", TEXT), part(c, "vision_config", "pixtral", VISION)
    side = c.plain("spatial_merge_size", 2, least=1)
    made = text_model(c, text, c.flag("tie_word_embeddings", True))
    seen = tower_of(vision, "model.vision_tower", merge=side)
    d, at = width_of(seen), "model.multi_modal_projector"
    bridge = (
        Norm(f"{at}.norm", d), Linear(f"{at}.patch_merger.merging_layer", d * side * side, d),
        *two_layers(at, d * feature_layers(c), made.hidden, c.flag("multimodal_projector_bias", False)),
    )  # fmt: skip
    return wrapped(c, made, (seen._replace(bridge=bridge),))
