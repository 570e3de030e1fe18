"""Gemma 4 with its towers: a vision tower like the text's layers, an audio conformer, and a matrix from each.

The text is a family of its own (``gemma4_text``); a null ``vision_config`` or ``audio_config`` is no tower.
Source: transformers 5, models/gemma4/modeling_gemma4.py and configuration_gemma4.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Extra, Layer, Linear, Norm
from estimator.families.common import gated_mlp, gqa
from estimator.families.common_tower import CHANNELS, alone, part, text_model, width_of, wrapped
from estimator.families.towers import Conv, ImageGrid, Repeated, Tower

SANDWICH = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"
)  # fmt: skip
ROLES = ("input", "post_mixer", "pre_mlp", "post_mlp")


def tower(c: Config, prefix: str, merge: int = 1, tokens: int | None = None) -> Tower:
    """The vision tower in module ``prefix``: positions in two tables, four norms a layer, norms on q and k."""
    at = f"{prefix}." if prefix else ""
    d, h = c.plain("hidden_size", 768, least=1), c.plain("num_attention_heads", 12, least=1)
    h_kv, d_h = c.plain("num_key_value_heads", 12, least=1), c.plain("head_dim", 64, least=1)
    patch, layer = c.plain("patch_size", 16, least=1), f"{at}encoder.layers.{{i}}"
    attn = f"{layer}.self_attn"
    attention = gqa(
        attn, d, h, h_kv, d_h, names=("q_proj.linear", "k_proj.linear", "v_proj.linear", "o_proj.linear"),
        norms=tuple(Norm(f"{attn}.{n}_norm", d_h) for n in "qk"), causal=False,
    )  # fmt: skip
    mlp = gated_mlp(
        f"{layer}.mlp", d, c.plain("intermediate_size", 3072, least=1),
        c.text("hidden_activation", "gelu_pytorch_tanh"),
        names=("gate_proj.linear", "up_proj.linear", "down_proj.linear"),
    )  # fmt: skip
    norms = tuple(Norm(f"{layer}.{n}", d) for n in SANDWICH)
    L = c.plain("num_hidden_layers", 16, least=1)
    stem = (
        Linear(f"{at}patch_embedder.input_proj", CHANNELS * patch * patch, d),
        Extra(f"{at}patch_embedder.position_embedding_table", (2, c.plain("position_embedding_size", 10240), d)),
    )
    grid = ImageGrid(None, (patch, patch), c.plain("pooling_kernel_size", 3, least=1), tokens=tokens)
    return Tower("vision", stem, (Layer(L, attention, mlp, norms, ROLES, "sandwich", side="encoder"),), grid=grid,
                 copied=True)  # fmt: skip


def audio_tower(c: Config, prefix: str) -> Tower:
    """The audio tower: two convolutions over the spectrogram, then conformer layers."""
    at = f"{prefix}." if prefix else ""
    d, h = c.plain("hidden_size", 1024, least=1), c.plain("num_attention_heads", 8, least=1)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    channels = c.items("subsampling_conv_channels") or [128, 32]
    if len(channels) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 4 for n in channels):
        raise InputError(f"{c.where}: subsampling_conv_channels must be two sizes, got {str(channels)[:40]!r}")
    first = f"{at}subsample_conv_projection"
    stem: list[Any] = []
    for i, (n_in, n_out) in enumerate(((1, channels[0]), (channels[0], channels[1]))):
        stem += [
            Conv(f"{first}.layer{i}.conv", n_in, n_out, (3, 3), bias=False),
            Norm(f"{first}.layer{i}.norm", n_out, "layer"),
        ]
    stem.append(Linear(f"{first}.input_proj_linear", channels[0] // 4 * channels[1], d))
    layer = f"{at}layers.{{i}}"
    parts: list[Any] = []
    for name in ("feed_forward1", "feed_forward2"):
        ff = f"{layer}.{name}"
        parts += [
            Linear(f"{ff}.ffw_layer_1.linear", d, 4 * d), Linear(f"{ff}.ffw_layer_2.linear", 4 * d, d),
            Norm(f"{ff}.pre_layer_norm", d), Norm(f"{ff}.post_layer_norm", d),
        ]  # fmt: skip
    parts += [Linear(f"{layer}.self_attn.{n}_proj.linear", d, d) for n in "qkv"]
    conv = f"{layer}.lconv1d"
    parts += [
        Extra(f"{layer}.self_attn.per_dim_scale", (d // h,)), Linear(f"{layer}.self_attn.post.linear", d, d),
        Linear(f"{layer}.self_attn.relative_k_proj", d, d),
        Linear(f"{conv}.linear_start.linear", d, 2 * d), Linear(f"{conv}.linear_end.linear", d, d),
        Conv(f"{conv}.depthwise_conv1d", d, d, (c.plain("conv_kernel_size", 5, least=1),), False, groups=d),
        Norm(f"{conv}.pre_layer_norm", d), Norm(f"{conv}.conv_norm", d),
        *(Norm(f"{layer}.{n}", d) for n in ("norm_pre_attn", "norm_post_attn", "norm_out")),
    ]  # fmt: skip
    out = Linear(f"{at}output_proj", d, c.plain("output_proj_dims", 1536, least=1), True)
    L = c.plain("num_hidden_layers", 12, least=1)
    return Tower("audio", tuple(stem), (Repeated(L, tuple(parts)),), (out,))


def build(c: Config) -> Architecture:
    """The whole model, or the vision tower alone."""
    if c.text("model_type", "").endswith("_vision"):
        return alone(c, tower(c, ""))
    text = part(c, "text_config", "gemma4_text")
    text = Config({**text.raw, "model_type": "gemma4_text"}, c.traced, text.where)
    made = text_model(c, text, c.flag("tie_word_embeddings", True))
    towers: list[Tower] = []
    if c.raw.get("vision_config") is not None:
        seen = tower(part(c, "vision_config", "gemma4_vision"), "model.vision_tower")
        matrix = Linear("model.embed_vision.embedding_projection", width_of(seen), made.hidden)
        towers.append(seen._replace(bridge=(matrix,)))
    if c.raw.get("audio_config") is not None:
        heard = audio_tower(part(c, "audio_config", "gemma4_audio"), "model.audio_tower")
        matrix = Linear("model.embed_audio.embedding_projection", heard.final[0].d_out, made.hidden)
        towers.append(heard._replace(bridge=(matrix,)))
    return wrapped(c, made, tuple(towers))
