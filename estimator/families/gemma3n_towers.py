"""Gemma 3n with its towers: MobileNetV5, a conformer for sound, and an embedder of each; the text is a family of its
own (``gemma3n_text``).

Source: transformers 5, models/gemma3n/modeling_gemma3n.py and configuration_gemma3n.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import mobilenetv5
from estimator.families.base import Architecture, Extra, Linear, Lookup, Norm
from estimator.families.common_tower import part, text_model, wrapped
from estimator.families.towers import Conv, ImageGrid, Repeated, Tower

PIXELS, PATCH = 768, 48  # what the processor resizes images to; 256 tokens of 48 x 48 pixels


def _sizes(c: Config, name: str, default: list[Any]) -> list[Any]:
    given = c.items(name) or default
    flat = [n for x in given for n in (x if isinstance(x, list) else [x])]
    if len(given) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in flat):
        raise InputError(f"{c.where}: {name} must be two sizes, got {str(given)[:40]!r}")
    return given


def audio_tower(c: Config, at: str) -> Tower:
    """The conformer in module ``at``."""
    d, h = c.plain("hidden_size", 1536, least=1), c.plain("conf_num_attention_heads", 8, least=1)
    c.divides(h, d, "conf_num_attention_heads", "hidden_size")
    channels = _sizes(c, "sscp_conv_channel_size", [128, 32])
    kernels = _sizes(c, "sscp_conv_kernel_size", [[3, 3], [3, 3]])
    strides = _sizes(c, "sscp_conv_stride_size", [[2, 2], [2, 2]])
    stem: list[Any] = []
    bins, n_in = c.plain("input_feat_size", 128, least=1), 1
    for i, (n, kernel, stride) in enumerate(zip(channels, kernels, strides, strict=True)):
        conv = f"{at}.subsample_conv_projection.conv_{i}"
        stem += [Conv(f"{conv}.conv", n_in, n, tuple(kernel), False), Norm(f"{conv}.norm", n)]
        bins, n_in = (bins + 2 - kernel[1]) // stride[1] + 1, n  # one bin of padding to each side
    stem.append(Linear(f"{at}.subsample_conv_projection.input_proj_linear", n_in * bins, d))
    layer = f"{at}.conformer.{{i}}"
    parts: list[Any] = []
    for name in ("ffw_layer_start", "ffw_layer_end"):
        ff = f"{layer}.{name}"
        parts += [
            Norm(f"{ff}.pre_layer_norm", d), Linear(f"{ff}.ffw_layer_1", d, 4 * d),
            Linear(f"{ff}.ffw_layer_2", 4 * d, d), Norm(f"{ff}.post_layer_norm", d),
        ]  # fmt: skip
    attn, conv = f"{layer}.attention", f"{layer}.lconv1d"
    parts += [Linear(f"{attn}.attn.{n}_proj", d, d) for n in "qkv"]
    parts += [
        Norm(f"{attn}.pre_attn_norm", d), Extra(f"{attn}.attn.per_dim_scale", (d // h,)),
        Linear(f"{attn}.attn.relative_position_embedding.pos_proj", d, d), Linear(f"{attn}.post", d, d),
        Norm(f"{attn}.post_norm", d), Norm(f"{conv}.pre_layer_norm", d), Linear(f"{conv}.linear_start", d, 2 * d),
        Conv(f"{conv}.depthwise_conv1d", d, d, (c.plain("conf_conv_kernel_size", 5, least=1),), False, groups=d),
        Norm(f"{conv}.conv_norm", d), Linear(f"{conv}.linear_end", d, d), Norm(f"{layer}.norm", d),
    ]  # fmt: skip
    return Tower("audio", tuple(stem), (Repeated(c.plain("conf_num_hidden_layers", 12, least=1), tuple(parts)),))


def embedder(c: Config, at: str, width: int) -> tuple[Any, ...]:
    """What a tower's features, or its own few words, pass before the matrix into the text's width."""
    return (
        Lookup(f"{at}.embedding", c.plain("vocab_size", 128, least=1), width),
        Norm(f"{at}.hard_embedding_norm", width), Norm(f"{at}.soft_embedding_norm", width),
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """The whole model. Both embedders' matrices run over every token of the text as well, images or not."""
    text = part(c, "text_config", "gemma3n_text")
    text = Config({**text.raw, "model_type": "gemma3n_text"}, c.traced, text.where)
    made = text_model(c, text, c.flag("tie_word_embeddings", True))
    vision, audio = part(c, "vision_config", "gemma3n_vision"), part(c, "audio_config", "gemma3n_audio")
    name = vision.text("architecture", "mobilenetv5_300m_enc")
    if name != "mobilenetv5_300m_enc":
        raise InputError(f"{vision.where}: architecture {name[:60]!r} is not described; mobilenetv5_300m_enc is")
    tokens = c.plain("vision_soft_tokens_per_image", 256, least=1)
    grid = ImageGrid((PIXELS, PIXELS), (PATCH, PATCH), tokens=tokens)
    sight, width = vision.plain("hidden_size", 2048, least=1), audio.plain("hidden_size", 1536, least=1)
    bridge = embedder(vision, "model.embed_vision", sight)
    seen = Tower("vision", (), (Repeated(1, mobilenetv5.parts("model.vision_tower.timm_model")),), (), bridge, grid)
    heard = audio_tower(audio, "model.audio_tower")
    heard = heard._replace(bridge=embedder(audio, "model.embed_audio", width))
    whole = wrapped(c, made, (seen, heard))
    matrices = tuple(
        Linear(f"model.embed_{name}.embedding_projection", n, made.hidden)
        for name, n in (("vision", sight), ("audio", width))
    )
    return whole._replace(embeddings=(*whole.embeddings, *matrices))
