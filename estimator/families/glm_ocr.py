"""GLM-OCR: GLM-4V's tower with norms of every head and no learned positions, and a small GLM-4.

Source: transformers 5.24, models/glm_ocr/modeling_glm_ocr.py and configuration_glm_ocr.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families import glm4v
from estimator.families.base import Architecture, Norm
from estimator.families.common_tower import (
    CHANNELS,
    alone,
    either_tied,
    pair,
    part,
    patch_conv,
    vit_layer,
    wrapped,
)
from estimator.families.towers import Tower

TEXT, VISION = "glm_ocr_text", "glm_ocr_vision"
DEFAULTS = {
    "vocab_size": 59392, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 131072,
}  # fmt: skip


def tower(
    c: Config, prefix: str, merge: int = 1, tokens: int | None = None, inner: int | None = None
) -> Tower:  # fmt: skip
    """The tower and its merger in module ``prefix``; ``inner``: the merger's width, else the channels times its own."""
    at = f"{prefix}." if prefix else ""
    d, width = c.plain("hidden_size", 1024, least=1), c.plain("out_hidden_size", 1536, least=1)
    h, side = c.plain("num_heads|num_attention_heads", 16, least=1), c.plain("spatial_merge_size", 2, least=1)
    patch, bias, block = pair(c, "patch_size", 14), c.flag("attention_bias", True), f"{at}blocks.{{i}}"
    c.divides(h, d, "num_heads", "hidden_size")
    layers = vit_layer(
        c, block, d, c.plain("intermediate_size", 4096, least=1), c.plain("depth|num_hidden_layers", 24, least=1),
        c.text("hidden_act", "silu"), heads="num_heads|num_attention_heads", attn="attn", qkv=("qkv", "proj"),
        bias=bias, out_bias=bias, fc=("gate_proj", "up_proj", "down_proj"), mlp_bias=bias, norms=("norm1", "norm2"),
        norm_kind="rms", position="rope", norms_qk=tuple(Norm(f"{block}.attn.{x}_norm", d // h) for x in "qk"),
    )  # fmt: skip
    frames = pair(c, "temporal_patch_size", 2)[0]
    stem = (patch_conv(f"{at}patch_embed.proj", c, d, patch, True, frames, "in_channels"),)
    inner = width * c.plain("in_channels", CHANNELS, least=1) if inner is None else inner
    return glm4v.merged(at, d, width, inner, side, stem, layers, patch)


def text_of(c: Config, tied: bool) -> Architecture:
    """GLM-4V's text without biases, its heads of a width of their own."""
    raw = {**DEFAULTS, **c.raw, "model_type": "glm4v_text"}
    return glm4v.text_of(Config(raw, c.traced, c.where), tied, bias=False)._replace(model_type=TEXT)


def build(c: Config) -> Architecture:
    """The whole model, its text or its tower alone."""
    kind = c.text("model_type", "")
    if kind == VISION:
        made = tower(c, "")
        return alone(c, made._replace(final=(*made.final, *made.bridge)))
    if kind == TEXT:
        return text_of(c, c.flag("tie_word_embeddings", False))
    text, vision = part(c, "text_config", TEXT), part(c, "vision_config", VISION)
    text = Config(text.raw, c.traced, text.where)
    made_text = text_of(text, either_tied(c, text, False))
    c.heed(text)
    return wrapped(c, made_text, (tower(vision, "model.visual"),))
