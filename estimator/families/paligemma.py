"""PaliGemma: a SigLIP tower, one matrix, and a Gemma whose attention looks both ways over the prompt.

Source: transformers 5, models/paligemma/modeling_paligemma.py and configuration_paligemma.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Linear
from estimator.families.common_tower import part, text_model, tower_of, width_of, wrapped

TEXT = {
    "hidden_size": 2048, "num_hidden_layers": 18, "intermediate_size": 16384, "num_attention_heads": 8,
    "num_key_value_heads": 1, "vocab_size": 257152,
}  # fmt: skip
VISION = {
    "intermediate_size": 4096, "hidden_size": 1152, "patch_size": 14, "image_size": 224, "num_hidden_layers": 27,
    "num_attention_heads": 16, "vision_use_head": False,
}  # fmt: skip


def build(c: Config) -> Architecture:
    """The whole model. ``projection_dim`` of the wrapper is the projector's width."""
    text, vision = part(c, "text_config", "gemma", TEXT), part(c, "vision_config", "siglip_vision_model", VISION)
    made, seen = text_model(c, text, c.flag("tie_word_embeddings", True)), tower_of(vision, "model.vision_tower")
    width = c.plain("projection_dim", 2048, least=1)
    bridge = (Linear("model.multi_modal_projector.linear", width_of(seen), width, True),)
    return wrapped(c, made, (seen._replace(bridge=bridge),))
