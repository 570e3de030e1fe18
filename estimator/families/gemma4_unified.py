"""Gemma 4 without towers: merged patches and frames of sound are projected straight into the text, a Gemma 4 without
inputs of the layers' own.

Source: transformers 5.24, models/gemma4_unified/modeling_gemma4_unified.py and configuration_gemma4_unified.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families import gemma4
from estimator.families.base import Architecture, Extra, Linear
from estimator.families.common_tower import CHANNELS, layer_norm, part, wrapped
from estimator.families.towers import ImageGrid, Tower

TEXT = "gemma4_unified_text"
FIXED = {"hidden_size_per_layer_input": 0, "enable_moe_block": False}  # what the text lacks
DEFAULTS = {"sliding_window": 1024, "max_position_embeddings": 262144}


def eyes(c: Config, width: int) -> Tower:
    """Patches of ``pooling_kernel_size`` squared patches, between three norms, with positions in two tables."""
    at, side = "model.embed_vision", c.plain("pooling_kernel_size", 3, least=1)
    patch, d = c.plain("patch_size", 16, least=1), c.plain("mm_embed_dim", 3840, least=1)
    pixels = CHANNELS * (patch * side) ** 2
    stem = (
        layer_norm(f"{at}.patch_ln1", pixels), Linear(f"{at}.patch_dense", pixels, d, True),
        layer_norm(f"{at}.patch_ln2", d),
        Extra(f"{at}.pos_embedding", (c.plain("mm_posemb_size", 1120, least=1), 2, d)), layer_norm(f"{at}.pos_norm", d),
    )  # fmt: skip
    name = f"{at}.multimodal_embedder.embedding_projection"
    bridge = (Linear(name, c.plain("output_proj_dims", 3840, least=1), width),)
    return Tower("vision", stem, (), bridge=bridge, grid=ImageGrid(None, (patch * side, patch * side)))


def text_of(c: Config, tied: bool) -> Architecture:
    """The text model."""
    raw = {**DEFAULTS, **c.raw, **FIXED, "model_type": "gemma4_text", "tie_word_embeddings": tied}
    inner = Config(raw, c.traced, c.where)
    made = gemma4.build(inner)
    c.heed(inner)
    return made._replace(model_type=TEXT)


def build(c: Config) -> Architecture:
    """The whole model, or its text alone; a null ``vision_config`` or ``audio_config`` takes no images, no sound."""
    if c.text("model_type", "") == TEXT:
        return text_of(c, c.flag("tie_word_embeddings", True))
    text = part(c, "text_config", TEXT)
    text = Config(text.raw, c.traced, text.where)
    made = text_of(text, c.flag("tie_word_embeddings", True))
    c.heed(text)
    towers: list[Tower] = []
    if c.raw.get("vision_config") is not None:
        towers.append(eyes(part(c, "vision_config", "gemma4_unified_vision"), made.hidden))
    if c.raw.get("audio_config") is not None:
        heard = part(c, "audio_config", "gemma4_unified_audio").plain("audio_embed_dim", 640, least=1)
        matrix = Linear("model.embed_audio.embedding_projection", heard, made.hidden)
        towers.append(Tower("audio", (), (), bridge=(matrix,)))
    return wrapped(c, made, tuple(towers))
