"""GLM-4.1V, GLM-4.5V and GLM-4.6V: a tower whose patches are joined by a convolution and a gated merger, and a GLM-4
or GLM-4.5 text model.

Source: transformers 5, models/glm4v and glm4v_moe, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families import glm, glm4_moe
from estimator.families.base import Architecture, Layer, Linear, Lookup, Norm
from estimator.families.common_gguf import Gguf
from estimator.families.common_tower import (
    alone,
    either_tied,
    layer_norm,
    pair,
    part,
    patch_conv,
    patches,
    vit_layer,
    wrapped,
)
from estimator.families.towers import Conv, ImageGrid, Tower
from estimator.inventory import POSITION

SANDWICH = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")
ROLES = ("input", "post_mixer", "pre_mlp", "post_mlp")
GGUF = {"glm4v_text": Gguf("glm4", positions=4)}


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The tower and its merger in module ``prefix``: the MLP is as wide as the text, the merger as the MLP's field."""
    at = f"{prefix}." if prefix else ""
    d, width = c.plain("hidden_size", 1536, least=1), c.plain("out_hidden_size", 4096, least=1)
    inner, side = c.plain("intermediate_size", 13696, least=1), c.plain("spatial_merge_size", 2, least=1)
    size, patch = pair(c, "image_size", 336), pair(c, "patch_size", 14)
    layers = vit_layer(
        c, f"{at}blocks.{{i}}", d, width, c.plain("depth|num_hidden_layers", 24, least=1), c.text("hidden_act", "silu"),
        heads="num_heads|num_attention_heads", default_heads=12, attn="attn", qkv=("qkv", "proj"),
        bias=c.flag("attention_bias", False), out_bias=False, fc=("gate_proj", "up_proj", "down_proj"), mlp_bias=False,
        norms=("norm1", "norm2"), norm_kind="rms", position="rope",
    )  # fmt: skip
    frames = pair(c, "temporal_patch_size", 2)[0]
    stem = (
        patch_conv(f"{at}patch_embed.proj", c, d, patch, True, frames, "in_channels"),
        Norm(f"{at}post_conv_layernorm", d),
        Lookup(f"{at}embeddings.position_embedding", patches(size, patch), d, POSITION),
    )
    return merged(at, d, width, inner, side, stem, layers, patch)


def merged(
    at: str, d: int, width: int, inner: int, side: int, stem: tuple[Any, ...], layer: Layer, patch: tuple[int, int]
) -> Tower:  # fmt: skip
    """A tower of width ``d`` whose patches are merged, ``side`` squared into one, and led through an MLP."""
    merger = f"{at}merger"
    bridge = (
        Conv(f"{at}downsample", d, width, (side, side)), Linear(f"{merger}.proj", width, width),
        layer_norm(f"{merger}.post_projection_norm", width), Linear(f"{merger}.gate_proj", width, inner),
        Linear(f"{merger}.up_proj", width, inner), Linear(f"{merger}.down_proj", inner, width),
    )  # fmt: skip
    return Tower("vision", stem, (layer,), (Norm(f"{at}post_layernorm", d),), bridge, ImageGrid(None, patch, side))


def text_of(c: Config, tied: bool, bias: bool = True) -> Architecture:
    """GLM-4 with norms around both branches and heads of d / h, with ``bias``; or GLM-4.5 with biases."""
    raw = {"tie_word_embeddings": False, **c.raw, "architectures": None}
    raw["tie_word_embeddings"] = tied
    if c.text("model_type", "").startswith("glm4v_moe"):
        raw = {"attention_bias": True, "vocab_size": 151424, "max_position_embeddings": 65536, **raw}
        inner = Config({**raw, "model_type": "glm4_moe"}, c.traced, c.where)
        return glm4_moe.build(inner)
    heads = c.plain("num_attention_heads", 32, least=1)
    d = c.plain("hidden_size", 4096, least=1)
    raw = {"head_dim": d // heads, **raw, "attention_bias": bias, "model_type": "glm"}
    made = glm.build(Config(raw, c.traced, c.where))
    layers = tuple(
        x._replace(
            norms=tuple(Norm(f"model.layers.{{i}}.{n}", made.hidden) for n in SANDWICH), norm_roles=ROLES,
            wiring="sandwich",
        )
        for x in made.layers
        if isinstance(x, Layer)
    )  # fmt: skip
    return made._replace(layers=layers)


def build(c: Config) -> Architecture:
    """The whole model, its text or its tower alone."""
    kind = c.text("model_type", "")
    if kind.endswith("_vision"):
        made = tower(c, "")
        return alone(c, made._replace(final=(*made.final, *made.bridge)))
    if kind.endswith("_text"):
        return text_of(c, c.flag("tie_word_embeddings", False))._replace(model_type=kind)
    text, vision = part(c, "text_config", f"{kind}_text"), part(c, "vision_config", f"{kind}_vision")
    text = Config({**text.raw, "model_type": f"{kind}_text"}, c.traced, text.where)
    made_text = text_of(text, either_tied(c, text, False))
    c.heed(text)
    return wrapped(c, made_text, (tower(vision, "model.visual"),))
