"""dots.ocr: a Qwen 2 and a tower of its own, with RMSNorm, gated MLPs and a merger of squares of four patches.

Source: vllm-project/vllm, vllm/model_executor/models/dots_ocr.py; held to the tensors that the published file holds.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Linear, Norm
from estimator.families.common_tower import layer_norm, pair, part, patch_conv, text_model, vit_layer, wrapped
from estimator.families.towers import ImageGrid, Tower


def tower(c: Config, prefix: str) -> Tower:
    """The tower and its merger in module ``prefix``."""
    d, width = c.plain("embed_dim", 1536, least=1), c.plain("hidden_size", 1536, least=1)
    patch, side = pair(c, "patch_size", 14), c.plain("spatial_merge_size", 2, least=1)
    at, wide = f"{prefix}.patch_embed.patchifier", d * side * side
    layers = vit_layer(
        c, f"{prefix}.blocks.{{i}}", d, c.plain("intermediate_size", 4224, least=1),
        c.plain("num_hidden_layers", 42, least=1), "silu", default_heads=12, attn="attn", qkv=("qkv", "proj"),
        bias=c.flag("use_bias", False), out_bias=c.flag("use_bias", False), fc=("fc1", "fc3", "fc2"),
        mlp_bias=c.flag("use_bias", False), norms=("norm1", "norm2"), norm_kind="rms", position="rope",
    )  # fmt: skip
    last = (Norm(f"{prefix}.post_trunk_norm", d),) if c.flag("post_norm", True) else ()
    bridge = (
        layer_norm(f"{prefix}.merger.ln_q", d),
        Linear(f"{prefix}.merger.mlp.0", wide, wide, True),
        Linear(f"{prefix}.merger.mlp.2", wide, width, True),
    )
    stem = (patch_conv(f"{at}.proj", c, d, patch), Norm(f"{at}.norm", d))
    return Tower("vision", stem, (layers,), (*last, bridge[0]), bridge[1:], ImageGrid(None, patch, side))


def build(c: Config) -> Architecture:
    """The whole model."""
    text = Config({**c.raw.copied(), "model_type": "qwen2"}, c.traced, c.where)
    made = text_model(c, text)
    return wrapped(c, made, (tower(part(c, "vision_config", "dots_vit"), "vision_tower"),), None)
