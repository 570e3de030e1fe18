"""InternVL: a vision transformer with layer scales, pixels of a square shuffled into one vector, a projector, and a
Qwen 2 or another text model.

Source: transformers 5, models/internvl/modeling_internvl.py and configuration_internvl.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Extra, Norm
from estimator.families.common_tower import (
    alone,
    layer_norm,
    pair,
    part,
    patch_conv,
    patches,
    text_model,
    two_layers,
    vit_layer,
    width_of,
    wrapped,
)
from estimator.families.towers import ImageGrid, Tower

VISION = "internvl_vision"


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The tower in module ``prefix``."""
    at = f"{prefix}." if prefix else ""
    d = c.plain("hidden_size", 1024, least=1)
    size, patch = pair(c, "image_size", 448), pair(c, "patch_size", 14)
    kind = c.text("norm_type", "layer_norm")
    if kind not in ("layer_norm", "rms_norm"):
        raise InputError(f"{c.where}: norm_type must be layer_norm or rms_norm, got {kind[:40]!r}")
    stem: list[Any] = [Extra(f"{at}embeddings.cls_token", (1, 1, d))]
    if c.flag("use_mask_token", False):
        stem.append(Extra(f"{at}embeddings.mask_token", (1, 1, d)))
    if c.flag("use_absolute_position_embeddings", True):
        stem.append(Extra(f"{at}embeddings.position_embeddings", (1, patches(size, patch) + 1, d)))
    stem.append(patch_conv(f"{at}embeddings.patch_embeddings.projection", c, d, patch))
    layer = f"{at}encoder.layer.{{i}}"
    qk = tuple(Norm(f"{layer}.attention.{n}_norm", d) for n in "qk") if c.flag("use_qk_norm", False) else ()
    layers = vit_layer(
        c, layer, d, c.plain("intermediate_size", 4096, least=1), c.plain("num_hidden_layers", 24, least=1),
        c.text("hidden_act", "gelu"), attn="attention", names=("q_proj", "k_proj", "v_proj", "projection_layer"),
        bias=c.flag("attention_bias", False), norms=("layernorm_before", "layernorm_after"),
        norm_kind="layer" if kind == "layer_norm" else "rms", extras=("lambda_1", "lambda_2"), norms_qk=qk,
    )  # fmt: skip
    final = () if c.flag("use_mean_pooling", True) else (layer_norm(f"{at}layernorm", d),)
    return Tower("vision", tuple(stem), (layers,), final, grid=ImageGrid(size, patch, merge, extra=1, tokens=tokens))


def build(c: Config) -> Architecture:
    """The whole model, or the tower alone."""
    if c.text("model_type", "") == VISION:
        return alone(c, tower(c, ""))
    text, vision = part(c, "text_config", "qwen2"), part(c, "vision_config", VISION)
    ratio = c.number("downsample_ratio", 0.5)
    if not 0 < ratio <= 1:
        raise InputError(f"{c.where}: downsample_ratio must be in (0, 1], got {ratio:g}")
    side = int(1 / ratio)
    made = text_model(c, text, c.flag("tie_word_embeddings", True))
    seen = tower(vision, "model.vision_tower", side)
    at, wide = "model.multi_modal_projector", width_of(seen) * side * side
    bridge = (layer_norm(f"{at}.layer_norm", wide), *two_layers(at, wide, made.hidden))
    return wrapped(c, made, (seen._replace(bridge=bridge),))
