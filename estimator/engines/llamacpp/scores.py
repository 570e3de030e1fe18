"""Scores and what they weigh: over a cache, over the tokens of the micro-batch alone, over an encoder's rows.

Source: src/llama-graph.cpp (build_attn_mha, build_pos_bias, build_inp_cross_embd), build 11549.
"""

from __future__ import annotations

from estimator.engines.llamacpp.graph import HELD, GgmlTensor, cached, like, op, view
from estimator.engines.llamacpp.indexer import masked
from estimator.engines.llamacpp.passes import FULL, WINDOW, GraphBuilder, size
from estimator.families.base import Attention
from estimator.families.common_gguf import ENCODER_ROWS
from estimator.records import NamedTuple

Q, K, V = 0, 1, 2
CROSS = "cross"  # the mask of the attention over an encoder


class Heads(NamedTuple):
    """Query heads, key/value heads, and the widths of a key and of a value in the cache."""

    queries: int
    keys: int
    k_width: int
    v_width: int


def heads_of(a: Attention) -> Heads:
    """The heads as the cache sees them: MLA is one key of latent and rotary part, and no value of its own."""
    if a.mla is not None:
        rank = size(a.mla["kv_rank"])
        return Heads(size(a.heads), 1, rank + size(a.mla["rope"]), rank)
    return Heads(size(a.heads), size(a.kv_heads), size(a.head_dim), size(a.v_head_dim or a.head_dim))


def uncached(p: GraphBuilder, a: Attention, h: Heads, q: GgmlTensor, k: GgmlTensor, v: GgmlTensor) -> GgmlTensor:
    """Scores over keys that no cache holds, an encoder's own or those of its rows: [heads * width, T]."""
    T, n = p.tokens, k.shape[2]
    for t in (q, k, v):
        p.graph.expand(t)
    mask = _mask(p, CROSS if a.cross else FULL if a.window is None else WINDOW, (n, T))
    shape = (h.v_width * h.queries, T)
    if p.context.flash and not _biased(a):
        k, v = _halved(view(k)), _halved(view(v))
        return view(op("FLASH_ATTN_EXT", (h.v_width, h.queries, T), view(view(q)), k, v, mask), shape)
    scores = _with_bias(p, a, op("MUL_MAT", (n, T, h.queries), view(k), view(view(q))))
    values = op("CONT", (n, h.v_width, h.keys), view(view(v)))
    return op("CONT", shape, view(op("MUL_MAT", (h.v_width, T, h.queries), values, like("SOFT_MAX", scores, mask))))


def over_encoder(p: GraphBuilder, a: Attention, h: Heads, x: GgmlTensor) -> GgmlTensor:
    """Attention over the rows that an encoder left behind, as many as its longest text has: [heads * width, T]."""
    q = view(p.through(a.projections[Q], x), (h.k_width, h.queries, p.tokens))
    rows = p.graph.input("cross_embd", (p.width, size(p.arch.facts[ENCODER_ROWS])))
    k, v = (p.through(a.projections[which], rows) for which in (K, V))
    shape = (h.keys, rows.shape[1])
    return uncached(p, a, h, q, view(k, (h.k_width, *shape)), view(v, (h.v_width, *shape)))


def _biased(a: Attention) -> bool:
    """Whether a bias of relative positions is added to the scores, which the fused kernel cannot do."""
    return a.position == "relative"


def _with_bias(p: GraphBuilder, a: Attention, scores: GgmlTensor) -> GgmlTensor:
    """``scores`` [cells, T, heads] and, where the layer has one, a bias for the distance of every cell and token."""
    if not _biased(a):
        return scores
    cells, T, heads = scores.shape[:3]
    rows = op("GET_ROWS", (heads, cells * T), HELD, view(p.graph.input("pos_bucket", (cells, T), "i32")))
    return like("ADD", scores, op("CONT", scores.shape, view(rows, scores.shape, strided=True)))


def _halved(t: GgmlTensor) -> GgmlTensor:
    """``t`` in f16; ggml_cast lists the result among its own sources."""
    cast = op("CPY", t.shape, t, type="f16")
    cast.sources = (t, cast)
    return cast


def cache_of(p: GraphBuilder, a: Attention) -> str:
    """Which of the caches the layer reads."""
    return WINDOW if p.windows and a.cache_window is not None else FULL


def cells_of(p: GraphBuilder, a: Attention) -> int:
    if cache_of(p, a) == FULL:
        return p.context.cells
    return p.context.window_cells(size(a.cache_window))


def scores_over(p: GraphBuilder, a: Attention, cache: str, h: Heads, q: GgmlTensor) -> GgmlTensor:
    """Softmax of the scores times the values: [heads * width, T]; for MLA [width, T, heads] before its expansion."""
    c = p.context
    n, each, streams = cells_of(p, a), p.tokens // c.streams, c.streams
    mask = _mask(p, cache, (n, each, 1, streams))
    mask = mask if p.chosen is None else masked(mask, p.chosen)
    q = view(view(q))
    keys, held = (cached((width, n, h.keys, streams), kind) for width, kind in ((h.k_width, c.k), (h.v_width, c.v)))
    if c.flash and not _biased(a):
        shape = (h.v_width, h.queries, each, streams)
        # the fused kernel reads no f32: such a cache is copied first
        operands = (_halved(t) if t.type == "f32" else t for t in (keys, held))
        return view(op("FLASH_ATTN_EXT", shape, q, *operands, mask), (h.v_width * h.queries, p.tokens))
    if a.mla is not None:  # the values are a part of the keys: transposed anew in every pass
        held = op("CONT", (n, h.v_width, 1, streams), held, type="f32" if c.k == "f32" else "f16")
    elif c.flash:  # values lie as the fused kernel reads them
        held = op("CONT", (n, h.v_width, h.keys, streams), held, type=c.v)
    scores = op("MUL_MAT", (n, each, h.queries, streams), keys, q)
    if a.softcap:
        for name in ("SCALE", "TANH", "SCALE"):
            scores = like(name, scores)
    scores = like("SOFT_MAX", _with_bias(p, a, scores), mask)
    weighted = op("MUL_MAT", (h.v_width, each, h.queries, streams), held, scores)
    if a.mla is not None:
        return weighted
    y = op("CONT", (h.v_width * h.queries, p.tokens), view(weighted))
    p.forced_host.add(y.number)
    return y


def _mask(p: GraphBuilder, cache: str, shape: tuple[int, ...]) -> GgmlTensor:
    """The mask: in f16 for the fused kernel, which older builds cast from f32 once a pass."""
    half = p.context.flash
    given = p.graph.input(f"{cache}_mask", shape, "f16" if half and p.context.halved else "f32")
    if not half or p.context.halved:
        return given
    if cache not in p.casts:
        p.casts[cache] = _halved(given)
    return p.casts[cache]
