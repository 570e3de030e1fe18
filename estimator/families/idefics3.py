"""Idefics3 and SmolVLM: a SigLIP-like tower, pixels of a square shuffled into one vector, one matrix, and a Llama.

Source: transformers 5, models/idefics3 and smolvlm, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Linear
from estimator.families.common_tower import part, text_model, tower_of, width_of, wrapped


def build(c: Config) -> Architecture:
    """The whole model."""
    kind = c.text("model_type", "")
    text, vision = part(c, "text_config", "llama"), part(c, "vision_config", f"{kind}_vision")
    seen = Config({**vision.raw, "model_type": f"{kind}_vision"}, False, vision.where)
    side = c.plain("scale_factor", 2, least=1)
    made = text_model(c, text, c.flag("tie_word_embeddings", False))
    tower = tower_of(seen, "model.vision_model", merge=side)
    bridge = (Linear("model.connector.modality_projection.proj", width_of(tower) * side * side, made.hidden),)
    return wrapped(c, made, (tower._replace(bridge=bridge),), "model.text_model")
