"""InternVL as its own repositories write it (InternVL 1.5 to 3.5): InternViT, whose pixels of a square become one
vector, a norm and two matrices, and any text model.

Source: OpenGVLab/InternVL, internvl_chat/internvl/model/internvl_chat/{modeling,configuration}_*.py; held to what the
published files hold.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Extra, Norm
from estimator.families.common_tower import (
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

NORMS = {"layer_norm": "layer", "rms_norm": "rms"}


def tower(c: Config, prefix: str, merge: int = 1) -> Tower:
    """InternViT in module ``prefix``."""
    d, kind = c.plain("hidden_size", 3200, least=1), c.text("norm_type", "rms_norm")
    if kind not in NORMS:
        raise InputError(f"{c.where}: norm_type must be {' or '.join(NORMS)}, got {kind[:40]!r}")
    size, patch, layer = pair(c, "image_size", 224), pair(c, "patch_size", 14), f"{prefix}.encoder.layers.{{i}}"
    stem = (
        Extra(f"{prefix}.embeddings.class_embedding", (1, 1, d)),
        patch_conv(f"{prefix}.embeddings.patch_embedding", c, d, patch),
        Extra(f"{prefix}.embeddings.position_embedding", (1, patches(size, patch) + 1, d)),
    )
    qk = tuple(Norm(f"{layer}.attn.{n}_norm", d) for n in "qk") if c.flag("qk_normalization", True) else ()
    layers = vit_layer(
        c, layer, d, c.plain("intermediate_size", 12800, least=1), c.plain("num_hidden_layers", 48, least=1),
        c.text("hidden_act", "gelu"), default_heads=25, attn="attn", qkv=("qkv", "proj"),
        bias=c.flag("qkv_bias", False), norms=("norm1", "norm2"), norm_kind=NORMS[kind], extras=("ls1", "ls2"),
        norms_qk=qk,
    )  # fmt: skip
    return Tower("vision", stem, (layers,), grid=ImageGrid(size, patch, merge, extra=1))


def build(c: Config) -> Architecture:
    """The whole model."""
    text, vision = part(c, "llm_config", "llama"), part(c, "vision_config", "intern_vit_6b")
    ratio = c.number("downsample_ratio", 0.5)
    if not 0 < ratio <= 1:
        raise InputError(f"{c.where}: downsample_ratio must be in (0, 1], got {ratio:g}")
    side = int(1 / ratio)
    made = text_model(c, text)
    seen = tower(vision, "vision_model", side)
    wide = width_of(seen) * side * side
    bridge = (layer_norm("mlp1.0", wide), *two_layers("mlp1", wide, made.hidden, names=("1", "3")))
    head = None if made.head is None else made.head._replace(name=f"language_model.{made.head.name}")
    made = made._replace(head=head, facts={**made.facts, "class": "ForConditionalGeneration"})
    return wrapped(c, made, (seen._replace(bridge=bridge),), "language_model.model")
