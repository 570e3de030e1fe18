"""Florence-2: DaViT, whose blocks attend within windows and then over channels, before a BART.

Its images' products are not described: the tower's weights are.
Source: transformers 5.24, models/florence2/modeling_florence2.py and configuration_florence2.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import bart
from estimator.families.base import HEAD, Architecture, Linear, Lookup
from estimator.families.common_tower import CHANNELS, layer_norm, part, wrapped
from estimator.families.towers import Conv, Repeated, Tower
from estimator.inventory import POSITION

STAGES = {
    "depths": (1, 1, 9, 1), "patch_size": (7, 3, 3, 3), "patch_prenorm": (False, True, True, True),
    "embed_dim": (128, 256, 512, 1024),
}  # fmt: skip
SIDE = 3  # of the depthwise convolutions around each attention


def stages(c: Config, name: str) -> list[Any]:
    """One entry a stage."""
    given = c.items(name) or list(STAGES[name])
    n = len(c.items("depths") or STAGES["depths"])
    wanted = bool if name == "patch_prenorm" else int
    if len(given) != n or any(type(x) is not wanted or (wanted is int and x < 1) for x in given):
        raise InputError(f"{c.where}: {name} must have one entry for each of {n} stages, got {str(given)[:40]!r}")
    return given


def half(at: str, attn: str, d: int, d_ff: int, bias: bool) -> list[Any]:
    """A convolution, a norm, an attention, and the same around an MLP."""
    return [
        *(Conv(f"{at}.conv{i}", d, d, (SIDE, SIDE), groups=d) for i in (1, 2)),
        *(layer_norm(f"{at}.norm{i}", d) for i in (1, 2)),
        Linear(f"{at}.{attn}.qkv", d, 3 * d, bias), Linear(f"{at}.{attn}.proj", d, d, True),
        Linear(f"{at}.ffn.fc1", d, d_ff, True), Linear(f"{at}.ffn.fc2", d_ff, d, True),
    ]  # fmt: skip


def davit(c: Config, at: str) -> Tower:
    """Stages of a convolution that shrinks the image, and blocks."""
    depths, sides, before, widths = (stages(c, name) for name in STAGES)
    ratio, bias = c.number("mlp_ratio", 4.0), c.flag("qkv_bias", True)
    stem: list[Any] = []
    layers: list[Any] = []
    for i, (depth, side, first, d) in enumerate(zip(depths, sides, before, widths, strict=True)):
        d_in = widths[i - 1] if i else c.plain("in_channels", CHANNELS, least=1)
        conv = f"{at}.convs.{i}"
        stem += [Conv(f"{conv}.conv", d_in, d, (side, side)), layer_norm(f"{conv}.norm", d_in if first else d)]
        block, inner = f"{at}.blocks.{i}.{{i}}", int(d * ratio)
        parts = half(f"{block}.spatial_block", "window_attn", d, inner, bias)
        layers.append(Repeated(depth, (*parts, *half(f"{block}.channel_block", "channel_attn", d, inner, bias))))
    return Tower("vision", tuple(stem), tuple(layers))


def build(c: Config) -> Architecture:
    """Florence-2 from its config."""
    text, seen = part(c, "text_config", "bart"), part(c, "vision_config", "florence_vision")
    raw = {**text.raw, "model_type": "bart", "architectures": ["BartForConditionalGeneration"]}
    inner = Config(raw, c.traced, text.where)
    made = bart.build(inner)  # its word on tying is about the tables of both sides, the wrapper's about the head
    tied = c.flag("tie_word_embeddings", True)
    head = None if tied else Linear("lm_head", made.hidden, made.vocab, role=HEAD)
    made = made._replace(buffers=(), head=head, tied=tied)
    c.heed(inner)
    at, last = "model.multi_modal_projector", stages(seen, "embed_dim")[-1]
    width, places = seen.plain("projection_dim", 1024, least=1), seen.plain("max_position_embeddings", 50, least=1)
    names = ("row_embeddings", last // 2), ("column_embeddings", last - last // 2)
    bridge = (
        *(Lookup(f"{at}.image_position_embed.{name}", places, n, POSITION) for name, n in names),
        Linear(f"{at}.image_projection", last, width), layer_norm(f"{at}.image_proj_norm", width),
    )
    tower = davit(seen, "model.vision_tower")._replace(bridge=bridge)
    return wrapped(c, made, (tower,))
