"""DeepSeek-VL and Janus's kin: a SigLIP tower, an aligner of two matrices, and a Llama.

Source: transformers 5, models/deepseek_vl/modeling_deepseek_vl.py and configuration_deepseek_vl.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common_tower import part, text_model, tower_of, two_layers, width_of, wrapped


def build(c: Config) -> Architecture:
    """The whole model."""
    text, vision = part(c, "text_config", "llama"), part(c, "vision_config", "siglip_vision_model")
    made, seen = text_model(c, text, c.flag("tie_word_embeddings", True)), tower_of(vision, "model.vision_model")
    bridge = two_layers("model.aligner", width_of(seen), made.hidden, names=("linear1", "linear2"))
    return wrapped(c, made, (seen._replace(bridge=bridge),))
