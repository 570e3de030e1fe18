"""MobileNetV5-300M, the vision tower of Gemma 3n: one fixed network of timm's, so its sizes are written here.

A stem, four stages of inverted bottlenecks (the last two with multi-query attention between), and a fusion of the last
two stages' features. Source: timm 1.0.31, models/mobilenetv5.py (mobilenetv5_300m_enc) and
models/_efficientnet_blocks.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.families.base import Extra, Norm
from estimator.families.towers import Conv

STEM, WIDTHS = 64, (128, 256, 640, 1280)  # channels of the stem and of each stage
FUSED, EXPANSION = 2048, 2  # channels of the fusion, and how much wider it is within

# universal inverted bottlenecks: (first depthwise kernel, or 0; middle one, or 0; expansion), and "a" for attention
Block = tuple[int, int, int] | str
STAGES: tuple[tuple[Block, ...], ...] = (
    ((3, 5, 6), (5, 0, 4), (3, 0, 4), (5, 0, 4), (3, 0, 4)),
    ((5, 5, 6), *(((5, 0, 4),) * 7), (0, 0, 1), *(("a", (0, 0, 2)) * 14)),
    ((5, 5, 6), *(("a", (0, 0, 2)) * 19)),
)
# of each stage's attention: query width, key width, whether keys and values are read from every second pixel
ATTENTION = {1: (12 * 64, 64, True), 2: (16 * 96, 96, False)}


def parts(at: str) -> tuple[Any, ...]:
    """Every part of the network in module ``at``."""
    return tuple(_parts(at))


def _parts(at: str) -> Iterator[Any]:
    yield Conv(f"{at}.conv_stem.conv", 3, STEM, (3, 3))
    yield _norm(f"{at}.conv_stem.bn", STEM)
    width = STEM
    for i in range(3):  # edge residuals: a full convolution that widens, one of single pixels that narrows
        block, wide = f"{at}.blocks.0.{i}", 4 * width
        yield Conv(f"{block}.conv_exp", width, wide, (3, 3), False)
        yield _norm(f"{block}.bn1", wide)
        yield Conv(f"{block}.conv_pwl", wide, WIDTHS[0], (1, 1), False)
        width = WIDTHS[0]
        yield _norm(f"{block}.bn2", width)
    for stage, blocks in enumerate(STAGES, start=1):
        for i, spec in enumerate(blocks):
            name, out = f"{at}.blocks.{stage}.{i}", WIDTHS[stage]
            if isinstance(spec, str):
                yield from _attention(name, out, *ATTENTION[stage - 1])
            else:
                yield from _bottleneck(name, width, out, *spec)
            yield Extra(f"{name}.layer_scale.gamma", (out,))
            width = out
    fused = f"{at}.msfa"
    read = WIDTHS[-1] + WIDTHS[-2]
    yield from _pointwise(f"{fused}.ffn.pw_exp", read, EXPANSION * read)
    yield from _pointwise(f"{fused}.ffn.pw_proj", EXPANSION * read, FUSED)
    yield _norm(f"{fused}.norm", FUSED)


def _norm(name: str, width: int) -> Norm:
    return Norm(name, width, "rms")


def _pointwise(name: str, d_in: int, d_out: int) -> Iterator[Any]:
    yield Conv(f"{name}.conv", d_in, d_out, (1, 1), False)
    yield _norm(f"{name}.bn", d_out)


def _depthwise(name: str, width: int, kernel: int) -> Iterator[Any]:
    yield Conv(f"{name}.conv", width, width, (kernel, kernel), False, groups=width)
    yield _norm(f"{name}.bn", width)


def _bottleneck(name: str, d_in: int, d_out: int, first: int, middle: int, expansion: int) -> Iterator[Any]:
    wide = d_in * expansion
    if first:
        yield from _depthwise(f"{name}.dw_start", d_in, first)
    yield from _pointwise(f"{name}.pw_exp", d_in, wide)
    if middle:
        yield from _depthwise(f"{name}.dw_mid", wide, middle)
    yield from _pointwise(f"{name}.pw_proj", wide, d_out)


def _attention(name: str, width: int, queries: int, keys: int, halved: bool) -> Iterator[Any]:
    yield _norm(f"{name}.norm", width)
    yield Conv(f"{name}.attn.query.proj", width, queries, (1, 1), False)
    for what in ("key", "value"):
        if halved:
            yield Conv(f"{name}.attn.{what}.down_conv", width, width, (3, 3), False, groups=width)
            yield _norm(f"{name}.attn.{what}.norm", width)
        yield Conv(f"{name}.attn.{what}.proj", width, keys, (1, 1), False)
    yield Conv(f"{name}.attn.output.proj", queries, width, (1, 1), False)
