"""Aya Vision and Command A Vision: a SigLIP tower, pixels of a square shuffled into one vector, a gated projector, and
a Command R text model.

Source: transformers 5, models/aya_vision and cohere2_vision, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Linear
from estimator.families.common_tower import layer_norm, part, text_model, tower_of, width_of, wrapped

VISION = {
    "aya_vision": {
        "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14, "image_size": 384, "num_hidden_layers": 26,
        "num_attention_heads": 14, "vision_use_head": False,
    },
    "cohere2_vision": {
        "hidden_size": 1152, "intermediate_size": 3072, "image_size": 512, "num_hidden_layers": 27,
        "num_attention_heads": 12,
    },
}  # fmt: skip


def build(c: Config) -> Architecture:
    """The whole model. The projector's first matrix makes a gate and a value, so the second reads half."""
    kind = c.text("model_type", "")
    text, vision = part(c, "text_config", "cohere2"), part(c, "vision_config", "siglip_vision_model", VISION[kind])
    side = c.plain("downsample_factor", 2, least=1)
    made = text_model(c, text, c.flag("tie_word_embeddings", True))
    seen = tower_of(vision, "model.vision_tower", merge=side)
    at, wide, aya = "model.multi_modal_projector", width_of(seen) * side * side, kind == "aya_vision"
    inner = c.plain("alignment_intermediate_size", int(made.hidden) if aya else 36864, least=2)
    norm = (layer_norm(f"{at}.layernorm", wide),) if aya else ()
    bridge = (
        *norm, Linear(f"{at}.linear_1", wide, inner, True), Linear(f"{at}.linear_2", inner // 2, made.hidden, True)
    )  # fmt: skip
    return wrapped(c, made, (seen._replace(bridge=bridge),))
