"""SigLIP and SigLIP 2: a vision tower of pre-norm layers with an attention-pooling head, and a text tower beside it.

SigLIP cuts a fixed image into patches with a convolution; SigLIP 2 takes patches of any image, as vectors. Idefics3's
and SmolVLM's towers are the same without the head, Phi-4 multimodal's always has it.
Source: transformers 5, models/siglip, siglip2, idefics3, smolvlm and phi4_multimodal, modeling_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Extra, Linear, Lookup
from estimator.families.common_encoder import encoder
from estimator.families.common_tower import (
    alone,
    layer_norm,
    pair,
    part,
    patch_conv,
    patches,
    pooling_head,
    vit_layer,
)
from estimator.families.towers import ImageGrid, Tower
from estimator.inventory import POSITION

# (width, MLP, layers, heads, image, patch) that the config class of the type starts from
DEFAULTS: dict[str, tuple[int, int, int, int, int, int]] = {
    "siglip_vision_model": (768, 3072, 12, 12, 224, 16),
    "siglip2_vision_model": (768, 3072, 12, 12, 256, 16),
    "idefics3_vision": (1152, 3072, 12, 16, 224, 32),
    "smolvlm_vision": (1152, 3072, 12, 16, 224, 32),
    "phi4_multimodal_vision": (1152, 4304, 27, 16, 448, 14),
}
ALIASES = {"idefics3": "idefics3_vision", "smolvlm": "smolvlm_vision"}  # older configs name the wrapper's type


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The vision tower in module ``prefix``. merge, tokens: see :class:`estimator.families.base.ImageGrid`."""
    kind = c.text("model_type", "")
    kind = ALIASES.get(kind, kind)
    width, inner, depth, heads, image, square = DEFAULTS[kind]
    at = f"{prefix}." if prefix else ""
    d, d_ff = c.plain("hidden_size", width, least=1), c.plain("intermediate_size", inner, least=1)
    act = c.text("hidden_act", "gelu_pytorch_tanh")
    patch, free = pair(c, "patch_size", square), kind == "siglip2_vision_model"
    size = None if free else pair(c, "image_size", image)
    rows = c.plain("num_patches", image, least=1) if size is None else patches(size, patch)
    conv = patch_conv(f"{at}embeddings.patch_embedding", c, d, patch)
    first = Linear(conv.name, conv.d_in * patch[0] * patch[1], d, True) if free else conv
    layers = vit_layer(
        c, f"{at}encoder.layers.{{i}}", d, d_ff, c.plain("num_hidden_layers", depth, least=1), act,
        default_heads=heads,
    )  # fmt: skip
    pooled = kind.startswith("phi4") or (kind.startswith("siglip") and c.flag("vision_use_head", True))
    head = pooling_head(f"{at}head", d, d_ff, act) if pooled else ()
    return Tower(
        "vision", (first, Lookup(f"{at}embeddings.position_embedding", rows, d, POSITION)), (layers,),
        (layer_norm(f"{at}post_layernorm", d),), grid=ImageGrid(size, patch, merge, tokens=tokens), pooled=head,
    )  # fmt: skip


def text_tower(c: Config, prefix: str) -> Architecture:
    """The text tower: pre-norm layers over learned positions, and a projection of one token a sequence."""
    at = f"{prefix}." if prefix else ""
    d, V = c.plain("hidden_size", 768, least=1), c.plain("vocab_size", 32000, least=1)
    L = c.plain("num_hidden_layers", 12, least=1)
    positions = c.plain("max_position_embeddings", 64, least=1)
    layers = vit_layer(
        c, f"{at}encoder.layers.{{i}}", d, c.plain("intermediate_size", 3072, least=1), L,
        c.text("hidden_act", "gelu_pytorch_tanh"), default_heads=12,
    )  # fmt: skip
    tables = (
        Lookup(f"{at}embeddings.token_embedding", V, d),
        Lookup(f"{at}embeddings.position_embedding", positions, d, POSITION),
    )
    head = Linear(f"{at}head", d, c.plain("projection_size", d, least=1), True)
    return encoder(
        c, "Model", tables, (layers,), V, d, L, (head,), final=(layer_norm(f"{at}final_layer_norm", d),),
        max_positions=positions,
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """Either tower alone, or both with their logit scale and bias."""
    kind = c.text("model_type", "")
    if kind in DEFAULTS:
        return alone(c, tower(c, ""))
    if kind.endswith("_text_model"):
        return text_tower(c, "")
    text = part(c, "text_config", f"{kind}_text_model")
    vision = part(c, "vision_config", f"{kind}_vision_model")
    made = text_tower(text, "text_model")
    loose: tuple[Any, ...] = tuple(x for name in ("logit_scale", "logit_bias") for x in Extra(name, (1,)).weights())
    return made._replace(model_type=kind, towers=(tower(vision, "vision_model"),), extra_weights=loose)
