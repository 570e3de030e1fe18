"""Pixtral's vision tower: images of any size, rotary positions in two dimensions, RMSNorm, a gated MLP, no biases.

Source: transformers 5, models/pixtral/modeling_pixtral.py and configuration_pixtral.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture, Norm
from estimator.families.common_tower import alone, pair, patch_conv, vit_layer
from estimator.families.towers import ImageGrid, Tower


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The tower in module ``prefix``."""
    at = f"{prefix}." if prefix else ""
    d, patch = c.plain("hidden_size", 1024, least=1), pair(c, "patch_size", 16)
    layers = vit_layer(
        c, f"{at}transformer.layers.{{i}}", d, c.plain("intermediate_size", 4096, least=1),
        c.plain("num_hidden_layers", 24, least=1), c.text("hidden_act", "gelu"), attn="attention",
        names=("q_proj", "k_proj", "v_proj", "o_proj"), bias=False, out_bias=False, mlp="feed_forward",
        fc=("gate_proj", "up_proj", "down_proj"), mlp_bias=False, norms=("attention_norm", "ffn_norm"),
        norm_kind="rms", position="rope",
    )  # fmt: skip
    stem = (patch_conv(f"{at}patch_conv", c, d, patch, bias=False), Norm(f"{at}ln_pre", d))
    return Tower("vision", stem, (layers,), grid=ImageGrid(None, patch, merge, tokens=tokens))


def build(c: Config) -> Architecture:
    """The tower alone."""
    return alone(c, tower(c, ""))
