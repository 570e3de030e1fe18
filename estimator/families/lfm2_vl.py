"""LFM2-VL: a SigLIP 2 tower, pixels of a square shuffled into one vector, a projector, and an LFM2.

Source: transformers 5, models/lfm2_vl/modeling_lfm2_vl.py and configuration_lfm2_vl.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common_tower import layer_norm, part, text_model, tower_of, two_layers, width_of, wrapped


def build(c: Config) -> Architecture:
    """The whole model."""
    text, vision = part(c, "text_config", "lfm2"), part(c, "vision_config", "siglip2_vision_model")
    side = c.plain("downsample_factor", 2, least=1)
    made = text_model(c, text, c.flag("tie_embedding|tie_word_embeddings", True))
    seen = tower_of(vision, "model.vision_tower", merge=side)
    at, wide = "model.multi_modal_projector", width_of(seen) * side * side
    norm = (layer_norm(f"{at}.layer_norm", wide),) if c.flag("projector_use_layernorm", True) else ()
    inner = c.plain("projector_hidden_size", 2560, least=1)
    bridge = (*norm, *two_layers(at, wide, made.hidden, c.flag("projector_bias", True), inner=inner))
    return wrapped(c, made, (seen._replace(bridge=bridge),))
