"""DINOv2: a vision transformer with layer scales, a mask token and, in its largest, a gated MLP (arXiv:2304.07193).

Source: transformers 5, models/dinov2/modeling_dinov2.py and configuration_dinov2.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Extra, Linear
from estimator.families.common_encoder import built_class, labels
from estimator.families.common_tower import alone, layer_norm, pair, patch_conv, patches, vit_layer
from estimator.families.towers import ImageGrid, Tower


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The layers with their embeddings and last norm, in module ``prefix``."""
    at = f"{prefix}." if prefix else ""
    d = c.plain("hidden_size", 768, least=1)
    size, patch = pair(c, "image_size", 224), pair(c, "patch_size", 14)
    mask = (Extra(f"{at}embeddings.mask_token", (1, d)),) if c.flag("use_mask_token", True) else ()
    stem: tuple[Any, ...] = (
        Extra(f"{at}embeddings.cls_token", (1, 1, d)), *mask,
        Extra(f"{at}embeddings.position_embeddings", (1, patches(size, patch) + 1, d)),
        patch_conv(f"{at}embeddings.patch_embeddings.projection", c, d, patch),
    )  # fmt: skip
    gated = c.flag("use_swiglu_ffn", False)
    inner = int(d * c.number("mlp_ratio", 4))
    d_ff = (int(inner * 2 / 3) + 7) // 8 * 8 if gated else inner  # rounded up to whole eights
    layers = vit_layer(
        c, f"{at}encoder.layer.{{i}}", d, d_ff, c.plain("num_hidden_layers", 12, least=1),
        "silu" if gated else c.text("hidden_act", "gelu"), default_heads=12, attn="attention",
        names=("q_proj", "k_proj", "v_proj", "o_proj"), bias=c.flag("qkv_bias", True), norms=("norm1", "norm2"),
        fc=("gate_proj", "up_proj", "down_proj") if gated else ("fc1", "fc2"),
        extras=("layer_scale1.lambda1", "layer_scale2.lambda1"),
    )  # fmt: skip
    final = (layer_norm(f"{at}layernorm", d),)
    return Tower("vision", stem, (layers,), final, grid=ImageGrid(size, patch, merge, extra=1, tokens=tokens))


def build(c: Config) -> Architecture:
    """DINOv2 from its config; ``architectures`` tells which head it has."""
    suffix = built_class(c, "Dinov2", "Model", ("ForImageClassification",))
    if suffix == "Model":
        return alone(c, tower(c, ""))
    d = c.plain("hidden_size", 768, least=1)
    return alone(c, tower(c, "dinov2"), (Linear("classifier", 2 * d, labels(c), True),), facts={"class": suffix})
