"""Kimi K2.5 and K2.6: MoonViT, a merger of squares of patches, and a DeepSeek-V3-like text model.

The published files are remote code's: the tower's fields there (``vt_hidden_size`` and so on) are read as well.
Source: transformers 5, models/kimi_k25/modeling_kimi_k25.py and configuration_kimi_k25.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Extra, Linear
from estimator.families.common_tower import (
    alone,
    layer_norm,
    pair,
    part,
    patch_conv,
    text_model,
    vit_layer,
    width_of,
    wrapped,
)
from estimator.families.towers import ImageGrid, Tower

VISION = "kimi_k25_vision"


def tower(c: Config, prefix: str, merge: int | None = None, tokens: int | None = None) -> Tower:
    """MoonViT in module ``prefix``: learned positions on a grid, and rotary ones."""
    at = f"{prefix}." if prefix else ""
    d, patch = c.plain("hidden_size|vt_hidden_size", 1152, least=1), pair(c, "patch_size", 14)
    rows = c.plain("pos_emb_height|init_pos_emb_height", 64, least=1)
    columns = c.plain("pos_emb_width|init_pos_emb_width", 64, least=1)
    layers = vit_layer(
        c, f"{at}layers.{{i}}", d, c.plain("intermediate_size|vt_intermediate_size", 4304, least=1),
        c.plain("num_hidden_layers|vt_num_hidden_layers", 27, least=1), c.text("hidden_act", "gelu_pytorch_tanh"),
        heads="num_attention_heads|vt_num_attention_heads", attn="attn", names=("q_proj", "k_proj", "v_proj", "proj"),
        norms=("norm1", "norm2"), position="rope",
    )  # fmt: skip
    conv = patch_conv(f"{at}patch_embed.proj", c, d, patch)
    stem = (conv, Extra(f"{at}patch_embed.pos_emb.position_embeddings", (rows, columns, d)))
    side = pair(c, "merge_kernel_size", 2)
    grid = ImageGrid(None, patch, side[0] if merge is None else merge, tokens=tokens)
    return Tower("vision", stem, (layers,), (layer_norm(f"{at}final_layernorm", d),), grid=grid)


def build(c: Config) -> Architecture:
    """The whole model, or the tower alone. Its text's type ``kimi_k2`` is a DeepSeek-V3."""
    if c.text("model_type", "") == VISION:
        return alone(c, tower(c, ""))
    text, vision = part(c, "text_config", "deepseek_v3"), part(c, "vision_config", VISION)
    if text.raw["model_type"] == "kimi_k2":
        text = Config({**text.raw, "model_type": "deepseek_v3"}, c.traced, text.where)
    seen, side = tower(vision, "model.vision_tower"), pair(vision, "merge_kernel_size", 2)
    made = text_model(c, text, c.flag("tie_word_embeddings", True))
    at, wide = "model.mm_projector", width_of(seen) * side[0] * side[1]
    bridge = (
        layer_norm(f"{at}.pre_norm", c.plain("projection_hidden_size", 1152, least=1)),
        Linear(f"{at}.in_proj", wide, wide, True), Linear(f"{at}.out_proj", wide, made.hidden, True),
    )  # fmt: skip
    return wrapped(c, made, (seen._replace(bridge=bridge),))
