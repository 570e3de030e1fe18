"""Gemma 3 with its vision tower: the text decoder, a SigLIP tower and the projection between them.

Source: transformers 5, models/gemma3/modeling_gemma3.py and configuration_gemma3.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import siglip
from estimator.families.base import Architecture
from estimator.families.gemma import build_text
from estimator.inventory import NORM, OTHER, Weight


def build(c: Config) -> Architecture:
    """The multimodal model from ``text_config`` and ``vision_config``.

    Layers are the text decoder's; the tower's weights are ``extra_weights``, as its work depends on images,
    not tokens.
    """
    text = _part(c, "text_config", c.traced)
    vision = _part(c, "vision_config", False)
    tower = siglip.weights(vision, "model.vision_tower")
    width = vision.size("hidden_size", 768)
    text_width = text.size("hidden_size", 2304)
    bridge = (
        Weight("model.multi_modal_projector.mm_input_projection_weight", (width, text_width), 1, OTHER),
        Weight("model.multi_modal_projector.mm_soft_emb_norm.weight", (width,), 1, NORM),
    )
    made = build_text(
        text, 3, "model.language_model", tied=c.flag("tie_word_embeddings", True),
        extra_weights=(*tower, *bridge),
    )  # fmt: skip
    c.notes += [note for note in text.notes if note not in c.notes]
    return made._replace(model_type="gemma3")  # peft has default targets for the text model's type alone


def _part(c: Config, name: str, traced: bool) -> Config:
    part = c.raw.get(name) or {}
    if not isinstance(part, Mapping):
        raise InputError(f"{c.where}: {name} must be a mapping, got {str(part)[:40]!r}")
    model_type = {"text_config": "gemma3_text", "vision_config": "siglip_vision_model"}[name]
    return Config({"model_type": model_type, **part}, traced, f"{c.where}: {name}")
