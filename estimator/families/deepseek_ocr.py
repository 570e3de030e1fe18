"""DeepSeek-OCR: SAM's tower, whose features two convolutions halve twice, CLIP's on top of them, one matrix, and a
DeepSeek-V2 with the attention of a Llama.

The configs of DeepSeek-VL2 and DeepSeek-OCR 2 have this model_type too, and other towers: they are refused.
Source: deepseek-ai/DeepSeek-OCR, deepencoder.py, as vllm-project/vllm has it (vllm/model_executor/models/); held to the
elements that the published file holds.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Extra, Layer, Linear, Lookup, Norm
from estimator.families.common import gqa
from estimator.families.common_moe import decoder, expert_sizes
from estimator.families.common_tower import layer_norm, patch_conv, vit_layer, wrapped
from estimator.families.deepseek_v2 import LAYER, layers_of
from estimator.families.towers import Conv, ImageGrid, Tower
from estimator.inventory import POSITION

TOWER = "deeplip_b_l"
# build_sam_vit_b() and build_clip_l() take no config
PIXELS, PATCH, WINDOW = 1024, 16, 14
SAM, SAM_LAYERS, EVERYWHERE = 768, 12, (2, 5, 8, 11)
CLIP, CLIP_LAYERS, CLIP_PATCHES = 1024, 24, 256
NECK = (256, 512, 1024)
SIDE = PIXELS // PATCH // 4  # features a side that the text gets, each line with an end, and one end of all


def build(c: Config) -> Architecture:
    """The whole model; its text is read from the top of the config, as its class does."""
    vision = c.raw.get("vision_config")
    named = vision.get("model_name") if isinstance(vision, dict) else None
    if named != TOWER:
        hint = f"must be {TOWER!r} (DeepSeek-OCR), got {str(named)[:40]!r}"
        raise InputError(f"{c.where}: vision_config: model_name {hint}")
    made = text(c)
    return wrapped(c, made, towers("model", made.hidden), None)


def text(c: Config) -> Architecture:
    """DeepSeek-V2 without its latent: use_mla is false."""
    if c.flag("use_mla", True):
        raise InputError(f"{c.where}: use_mla must be false, as DeepSeek-OCR has it")
    d, h = c.size("hidden_size", 1280), c.size("num_attention_heads", 10)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    L = c.size("num_hidden_layers", 12)
    E, k = expert_sizes(c, "n_routed_experts", 64, 6)
    attention = gqa(f"{LAYER}.self_attn", d, h, c.size("num_key_value_heads", h), d // h)
    layers = layers_of(c, d, L, E, k, attention, False, "softmax_fp32", d_ff=6848, d_moe=896, shared=2, first=1)
    return decoder(c, layers, d, L, 129280, 8192)


def towers(at: str, width: Any) -> tuple[Tower, Tower]:
    """SAM's tower with the convolutions behind it, and CLIP's with the matrix behind both."""
    return _sam(f"{at}.sam_model"), _clip(f"{at}.vision_model", at, width)


def _sam(at: str) -> Tower:
    size, patch, layer = (PIXELS, PIXELS), (PATCH, PATCH), f"{at}.blocks.{{i}}"
    side = PIXELS // PATCH
    sizes = Config({"num_attention_heads": 12}, False, at)
    made = vit_layer(
        sizes, layer, SAM, 4 * SAM, SAM_LAYERS, "gelu", attn="attn", qkv=("qkv", "proj"), fc=("lin1", "lin2"),
        norms=("norm1", "norm2"),
    )  # fmt: skip
    assert isinstance(made.mixer, Attention)
    groups: list[Layer] = []
    for inside, reach in ((True, side), (False, WINDOW)):
        these = tuple(i for i in range(SAM_LAYERS) if (i in EVERYWHERE) == inside)
        mixer = made.mixer if inside else made.mixer._replace(chunk=WINDOW)
        tables = tuple(Extra(f"{layer}.attn.rel_pos_{x}", (2 * reach - 1, SAM // 12)) for x in "hw")
        groups.append(made._replace(times=len(these), indices=these, mixer=mixer, extras=tables))
    stem = (patch_conv(f"{at}.patch_embed.proj", sizes, SAM, patch), Extra(f"{at}.pos_embed", (1, side, side, SAM)))
    first, second, third = NECK
    final = (
        Conv(f"{at}.neck.0", SAM, first, (1, 1), False), layer_norm(f"{at}.neck.1", first),
        Conv(f"{at}.neck.2", first, first, (3, 3), False), layer_norm(f"{at}.neck.3", first),
    )  # fmt: skip
    bridge = (Conv(f"{at}.net_2", first, second, (3, 3), False), Conv(f"{at}.net_3", second, third, (3, 3), False))
    grid = ImageGrid(size, patch, 4, tokens=SIDE * (SIDE + 1) + 1, window=WINDOW)
    return Tower("vision", stem, tuple(groups), final, bridge, grid)


def _clip(at: str, model: str, width: Any) -> Tower:
    layer = f"{at}.transformer.layers.{{i}}"
    sizes = Config({"num_attention_heads": 16}, False, at)
    layers = vit_layer(sizes, layer, CLIP, 4 * CLIP, CLIP_LAYERS, "quick_gelu", qkv=("qkv_proj", "out_proj"))
    stem = (
        Extra(f"{at}.embeddings.class_embedding", (CLIP,)),
        patch_conv(f"{at}.embeddings.patch_embedding", sizes, CLIP, (14, 14), bias=False),
        Lookup(f"{at}.embeddings.position_embedding", CLIP_PATCHES + 1, CLIP, POSITION),
        Norm(f"{at}.pre_layrnorm", CLIP, "layer", True),
    )
    ends = tuple(Extra(f"{model}.{x}", (width,)) for x in ("image_newline", "view_seperator"))
    return Tower("vision", stem, (layers,), bridge=(*ends, Linear(f"{model}.projector.layers", 2 * CLIP, width, True)))
