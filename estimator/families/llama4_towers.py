"""Llama 4 with its vision tower: a class token, learned and rotary positions, pixels of a square shuffled into one
vector; the text is a family of its own (``llama4_text``).

Source: transformers 5, models/llama4/modeling_llama4.py and configuration_llama4.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Extra, Linear
from estimator.families.common_tower import alone, layer_norm, pair, part, patches, text_model, vit_layer, wrapped
from estimator.families.towers import ImageGrid, Tower


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The tower and its adapter in module ``prefix``."""
    at = f"{prefix}." if prefix else ""
    d, d_ff = c.plain("hidden_size", 768, least=1), c.plain("intermediate_size", 5632, least=1)
    size, patch = pair(c, "image_size", 448), pair(c, "patch_size", 14)
    ratio = c.number("pixel_shuffle_ratio", 0.5)
    if not 0 < ratio <= 1:
        raise InputError(f"{c.where}: pixel_shuffle_ratio must be in (0, 1], got {ratio:g}")
    stem = (
        Linear(f"{at}patch_embedding.linear", c.plain("num_channels", 3, least=1) * patch[0] * patch[1], d),
        Extra(f"{at}class_embedding", (d,)),
        Extra(f"{at}positional_embedding_vlm", (patches(size, patch) + 1, d)),
        layer_norm(f"{at}layernorm_pre", d),
    )
    layers = vit_layer(
        c, f"{at}model.layers.{{i}}", d, d_ff, c.plain("num_hidden_layers", 34, least=1), "gelu",
        names=("q_proj", "k_proj", "v_proj", "o_proj"), norms=("input_layernorm", "post_attention_layernorm"),
        position="rope",
    )  # fmt: skip
    out = c.plain("projector_output_dim", 4096, least=1)
    bridge = (
        Linear(f"{at}vision_adapter.mlp.fc1", d_ff, c.plain("projector_input_dim", 4096, least=1)),
        Linear(f"{at}vision_adapter.mlp.fc2", out, out),
    )
    norm = (layer_norm(f"{at}layernorm_post", d),)
    return Tower("vision", stem, (layers,), norm, bridge, ImageGrid(size, patch, round(1 / ratio), extra=1))


def build(c: Config) -> Architecture:
    """The whole model, or the tower alone. The head is inside the text model, and is tied where the text says so."""
    if c.text("model_type", "").endswith("_vision_model"):
        made = tower(c, "")
        return alone(c, made._replace(final=(*made.final, *made.bridge)))
    text, vision = part(c, "text_config", "llama4_text"), part(c, "vision_config", "llama4_vision_model")
    text = Config({**text.raw, "model_type": "llama4_text"}, c.traced, text.where)
    inner = text_model(c, text)
    seen = tower(vision, "vision_model")
    out = vision.plain("vision_output_dim", 7680, least=1)
    matrix = Linear("multi_modal_projector.linear_1", out, inner.hidden)
    whole = wrapped(c, inner, (seen._replace(bridge=(*seen.bridge, matrix)),), "language_model.model")
    head = whole.head and whole.head._replace(name=f"language_model.{whole.head.name}")
    return whole._replace(head=head)
