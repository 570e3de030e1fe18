"""Gemma 3 with its vision tower: the text decoder, a SigLIP tower and the projection between them.

Source: transformers 5, models/gemma3/modeling_gemma3.py and configuration_gemma3.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Extra, Norm
from estimator.families.common_tower import part, text_model, tower_of, width_of, wrapped


def build(c: Config) -> Architecture:
    """The multimodal model: layers are the text decoder's, and an image is ``mm_tokens_per_image`` of its tokens."""
    text, vision = part(c, "text_config", "gemma3_text"), part(c, "vision_config", "siglip_vision_model")
    made = text_model(c, text, c.flag("tie_word_embeddings", True))
    seen = tower_of(vision, "model.vision_tower", tokens=c.plain("mm_tokens_per_image", 256, least=1))
    at, d = "model.multi_modal_projector", width_of(seen)
    bridge = (
        Extra(f"{at}.mm_input_projection_weight", (d, made.hidden)),
        Norm(f"{at}.mm_soft_emb_norm", d, "rms_plus1"),
    )
    return wrapped(c, made, (seen._replace(bridge=bridge),))
