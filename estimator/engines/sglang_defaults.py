"""What SGLang takes where its user says nothing, by version and card: read in the wheels named beside each rule.

Versions between two that were read count as the older one; memory in MiB, as srt/server_args.py counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from estimator.engines.asked import ServerAsked, of_version
from estimator.engines.pool import alike_layers
from estimator.families.base import Attention, Layer
from estimator.records import NamedTuple
from estimator.schemas import MIB


class CardSize(NamedTuple):
    """Of cards below ``gib``: tokens a chunk, sequences of the largest graph below four ranks and from four."""

    gib: float
    chunk: int
    few: int
    many: int


TOP = 10**6
# server_args.py of 0.5.9 (A10, 4090: 24 and 80 sequences), 0.5.3 and 0.5.6 (16), 0.4.9 and 0.5.1.post1, 0.4.4 and
# 0.4.6; arg_groups/memory_hook.py of 0.5.23 (4,096 tokens, 48 and 160; not 0.5.18)
_FROM_60 = (CardSize(90, 8192, 256, 512), CardSize(160, 8192, 256, 512), CardSize(TOP, 16384, 512, 512))
_SMALLEST, _BELOW_60 = CardSize(20, 2048, 8, 8), CardSize(60, 4096, 32, 160)
CARDS = (
    ((0, 5, 23), (_SMALLEST, CardSize(35, 4096, 48, 160), _BELOW_60, *_FROM_60)),
    ((0, 5, 9), (_SMALLEST, CardSize(35, 2048, 24, 80), _BELOW_60, *_FROM_60)),
    ((0, 5, 3), (_SMALLEST, CardSize(35, 2048, 16, 80), _BELOW_60, *_FROM_60)),
    ((0, 4, 9), (CardSize(35, 2048, 8, 80), CardSize(160, 8192, 160, 160), CardSize(TOP, 16384, 160, 160))),
    ((0,), (CardSize(25_000 / 1024, 2048, 8, 80), CardSize(TOP, 8192, 160, 160))),
)
BY_CHUNK, BY_CARD, BY_CARD_OR_RANKS = (0, 5, 3), (0, 4, 9), (0, 4, 6)  # the rules of the share, as they came
PIECES = (0, 5, 10)  # prompts in graphs too: 0.5.10; not by default in 0.5.9
MANY = 300  # sequences of a graph, beyond which DP attention takes half more
LEAST_FREE, LEAST_FREE_FROM = 10 * 1024, 60 * 1024
# 0.4.9 and 0.5.1.post1: GiB left, and more a rank, on cards below so many GiB
LEFT = (
    (35, Fraction(28, 10), Fraction(1, 10)), (90, Fraction(95, 10), Fraction(1, 2)),
    (160, Fraction(12), Fraction(1, 2)),
)  # fmt: skip
LEFT_LARGEST = 32
RANKS = ((16, 79), (8, 81), (4, 85), (2, 87), (1, 88))  # 0.4.4 and 0.4.6: percent by tensor group
LARGE_CARD, LARGE_LEFT = 81_920, 13 * 1024  # 0.4.6: this is left of larger cards; not 0.4.4
# what a model that sees leaves of the share: model_runner.py of 0.4.4 and 0.4.6, server_args.py of 0.4.9; since
# 0.5.1.post1 by its tower's layers and width, adjust_mem_fraction_for_vlm
SEES = ((0, 4, 6), Fraction(9, 10)), ((0,), Fraction(95, 100))
BY_TOWER, TOWER, TOWER_LAYERS, TOWER_WIDTH = (0, 5, 1), Fraction(95, 100), 24, 1024


def card_size(asked: ServerAsked) -> CardSize:
    """The card's row; an 80 GB card's where none is named."""
    gib = _card(asked) / 1024
    return next(row for row in of_version(asked, CARDS) if gib < row.gib)


def _card(asked: ServerAsked) -> int:
    """MiB of the card as nvidia-smi prints them, which is what is read: utils/common.py, get_nvgpu_memory_capacity."""
    printed = None if asked.spec is None or asked.question.gpu_memory is not None else asked.spec.memory.reported_mib
    return printed or (asked.total or 80 * 1024 * MIB) // MIB


def usual_share(asked: ServerAsked, chunk: int, graph: int) -> Fraction:
    """``--mem-fraction-static`` where it is not given. chunk: tokens; graph: sequences of the largest graph."""
    card, ranks = Fraction(_card(asked)), asked.cut_over * asked.pipeline
    if asked.version >= BY_CHUNK:
        rest = 512 + Fraction(3, 2) * max(chunk, 2048) + 2 * graph + 128 * ranks + _pieces(asked, chunk)
        if asked.joint:  # more a copy: padding, and graphs of many sequences (0.5.9)
            rest += graph * asked.data * (3 if graph <= MANY else Fraction(9, 2))
        rest = max(rest, Fraction(LEAST_FREE)) if card > LEAST_FREE_FROM else rest
    elif asked.version >= BY_CARD:
        gib = next((a + b * ranks for below, a, b in LEFT if card < below * 1024), Fraction(LEFT_LARGEST))
        rest = gib * 1024
    elif asked.version >= BY_CARD_OR_RANKS and card > LARGE_CARD:
        rest = Fraction(LARGE_LEFT)
    else:
        percent = next(p for n, p in RANKS if asked.cut_over >= n)
        return Fraction(percent, 100) * _seen(asked)
    return Fraction(round(float(1 - rest / card), 3)).limit_denominator(1000) * _seen(asked)


def _pieces(asked: ServerAsked, chunk: int) -> int:
    """MiB left for graphs of prompts: 8 a size, or 1.5 GiB with a latent."""
    if asked.version < PIECES:
        return 0
    if any(a.mla is not None for a in asked.arch.attentions):
        return 1536
    return 8 * sum(n <= chunk for n in _piece_sizes(chunk))


def _piece_sizes(most: int) -> Iterable[int]:
    """Tokens of the graphs of prompts: _generate_piecewise_cuda_graph_tokens of 0.5.12."""
    return (
        *range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64), *range(1280, 4097, 256),
        *range(4608, most + 1, 512),
    )  # fmt: skip


def _seen(asked: ServerAsked) -> Fraction:
    """What a model that sees takes off its share, as a factor."""
    raw: Mapping[str, Any] = asked.model.config.raw if asked.model.config else {}
    vision = raw.get("vision_config")
    if not isinstance(vision, Mapping):
        return Fraction(1)
    if asked.version < BY_TOWER:
        return of_version(asked, SEES)
    layers, width = vision.get("num_hidden_layers", TOWER_LAYERS), vision.get("hidden_size", TOWER_WIDTH)
    if not isinstance(layers, int) or not isinstance(width, int):
        layers, width = TOWER_LAYERS, TOWER_WIDTH
    larger = Fraction(layers * width**2, TOWER_LAYERS * TOWER_WIDTH**2)
    return TOWER * max(Fraction(8, 10), min(Fraction(105, 100), 1 - (larger - 1) / 10))


WINDOWS_APART, FEW_APART = (0, 5, 1), (0, 5, 9)


def windows_apart(asked: ServerAsked, held: Iterable[Layer]) -> bool:
    """Whether window layers have a pool of their own.

    model_runner.py of 0.5.1.post1 to 0.5.6: where a model has windows, chunks excepted. configs/model_config.py of
    0.5.9: by a list of classes, which are those with chunks (Llama 4), sinks (gpt-oss) or, in 0.5.12, windowed heads of
    another size (Gemma 4, MiMo-V2).
    """
    kept = [x.mixer for x, _ in alike_layers(asked, held) if isinstance(x.mixer, Attention)]
    windowed = [a for a in kept if a.window is not None or a.chunk is not None]
    if not windowed or asked.version < WINDOWS_APART:
        return False
    if asked.version < FEW_APART:
        return all(a.chunk is None for a in windowed)
    full = {(a.kv_heads, a.head_dim) for a in kept if a not in windowed}
    return any(a.chunk is not None or a.sinks for a in windowed) or any(
        (a.kv_heads, a.head_dim) not in full for a in windowed if full
    )
