"""Attention as llama.cpp runs it: projections, rotation of quantised caches, the write into the cache, the scores.

Source: src/llama-graph.cpp (build_attn, build_attn_mha), src/models/*.cpp, build 11549.
"""

from __future__ import annotations

from estimator.engines.llamacpp.context import LATENT
from estimator.engines.llamacpp.graph import HELD, GgmlTensor, like, op, store, view
from estimator.engines.llamacpp.indexer import chosen
from estimator.engines.llamacpp.latent import low_rank, turned
from estimator.engines.llamacpp.passes import FULL, GraphBuilder, size
from estimator.engines.llamacpp.scores import (
    Heads,
    K,
    Q,
    V,
    cache_of,
    heads_of,
    over_encoder,
    scores_over,
    uncached,
)
from estimator.families.base import Architecture, Attention, Norm
from estimator.families.common_gguf import Gguf


def expanded(a: Attention, gguf: Gguf, build: int) -> Attention:
    """Latent attention as the cache sees it where its keys and values are kept by heads: older builds, MiniCPM 3."""
    if a.mla is None or not (gguf.whole_mla or build < LATENT):
        return a
    width = a.mla["nope"] + a.mla["rope"]
    return a._replace(mla=None, kv_heads=a.heads, head_dim=width, v_head_dim=a.mla["v"])


def value_row(a: Attention, arch: Architecture, flash: bool) -> int:
    """Elements of a token's values in the cache: transposed, without the fused kernel, every layer has the widest's."""
    alike = [] if flash else [x for x in arch.attentions if x.mla is None]
    return max(h.keys * h.v_width for h in map(heads_of, alike or [a]))


def attend(p: GraphBuilder, a: Attention, x: GgmlTensor) -> GgmlTensor:
    """The attention of a layer over ``x`` [d, T], projected back to [d, T]."""
    kept = expanded(a, p.gguf, p.context.build)
    if a.mla is not None:
        return p.through(a.out, _latent(p, a, x) if kept is a else _by_heads(p, a, kept, x))
    h = heads_of(a)
    if a.cross:
        return p.through(a.out, over_encoder(p, a, h, x))
    gate: GgmlTensor | None = None
    k: GgmlTensor | None = None
    v: GgmlTensor | None = None
    if a.reuses:
        q = _head(p, a, x, Q, h)
    elif p.gguf.packed or (len(a.projections) == 1 and not p.gguf.split):
        q, k, v = _packed(p, a, x, h)
    elif len(a.projections) == 2:  # the keys are the values too, but for their norms
        q, shared = _head(p, a, x, Q, h), p.through(a.projections[K], x)
        k, v = (_finished(p, a, view(shared, (h.k_width, h.keys, p.tokens)), which) for which in (K, V))
    else:
        q, gate = _query(p, a, x, h)
        k = _head(p, a, x, K, h)
        v = _head(p, a, x, V, h)
    y = _cached(p, a, h, q, k, v)
    if gate is not None:
        flat = op("CONT", y.shape, gate)
        y = like("MUL", y, like("SIGMOID", flat))
    if a.out_gate is not None:
        y = _opened(p, a, h, y, like("SIGMOID", p.through(a.out_gate, x)))
    if a.out_norm is not None:
        y = p.norm(a.out_norm, y)
    return p.through(a.out, y)


def _opened(p: GraphBuilder, a: Attention, h: Heads, y: GgmlTensor, gate: GgmlTensor) -> GgmlTensor:
    """The output [heads * width, T] times its gate, which has as many numbers or one a head."""
    if gate.shape[0] == y.shape[0]:
        return like("MUL", y, gate)
    by_head = view(y, (h.v_width, h.queries, p.tokens))
    return view(like("MUL", by_head, view(gate, (1, h.queries, p.tokens))), y.shape)


def _packed(p: GraphBuilder, a: Attention, x: GgmlTensor, h: Heads) -> list[GgmlTensor]:
    """q, k and v as strided slices of one product."""
    bias = a.projections[0].bias
    wide = p.linear(x, (h.queries + 2 * h.keys) * h.k_width, bias, a.projections[0].name)
    parts = [view(wide, (h.k_width, n, p.tokens), strided=True) for n in (h.queries, h.keys, h.keys)]
    return [_placed(p, a, parts[Q], Q), _placed(p, a, parts[K], K), parts[V]]


def _query(p: GraphBuilder, a: Attention, x: GgmlTensor, h: Heads) -> tuple[GgmlTensor, GgmlTensor | None]:
    """The queries, and the gate of the output where one product yields both (Qwen3-Next)."""
    if not a.gate:
        return _head(p, a, x, Q, h), None
    both = view(p.through(a.projections[Q], x), (2 * h.k_width, h.queries, p.tokens))
    q = view(both, (h.k_width, h.queries, p.tokens), strided=True)
    return _placed(p, a, _normed(p, a, q, Q), Q), view(both, q.shape, strided=True)


def _head(p: GraphBuilder, a: Attention, x: GgmlTensor, which: int, h: Heads) -> GgmlTensor:
    """One of query, key and value as [width, heads, T]."""
    if p.gguf.split and len(a.projections) == 1:
        whole = a.projections[0]
        n = h.k_width * (h.queries if which == Q else h.keys)
        y = p.linear(x, n, whole.bias, whole.name, size(whole.d_out))
    else:
        y = p.through(a.projections[which], x)
    norms = _norms(a, which)
    if norms and not _by_head(norms, h):
        y = p.norm(norms[0], y)
    y = view(y, (h.k_width if which != V else h.v_width, h.queries if which == Q else h.keys, p.tokens))
    return _finished(p, a, y, which) if not norms or _by_head(norms, h) else _placed(p, a, y, which)


def _finished(p: GraphBuilder, a: Attention, y: GgmlTensor, which: int) -> GgmlTensor:
    """Heads, normalised where each of them is, and placed."""
    y = _normed(p, a, y, which)
    return y if which == V else _placed(p, a, y, which)


def _norms(a: Attention, which: int) -> tuple[Norm, ...]:
    return a.norms[which : which + 1]


def _by_head(norms: tuple[Norm, ...], h: Heads) -> bool:
    """Whether a norm acts on single heads rather than on all of them as one row."""
    return size(norms[0].width) == h.k_width


def _normed(p: GraphBuilder, a: Attention, y: GgmlTensor, which: int) -> GgmlTensor:
    norm = _norms(a, which)
    if not norm or (norm[0].affine is False and a.position != "rope"):
        return y
    return y if a.normed == "rotated" else p.norm(norm[0], y)


def _placed(p: GraphBuilder, a: Attention, y: GgmlTensor, which: int) -> GgmlTensor:
    """Rotary embedding, and what else is done to queries before the scores."""
    if a.position == "rope":
        y = p.rope(y, a)
        if a.normed == "rotated" and _norms(a, which):
            y = p.norm(_norms(a, which)[0], y)
    if which == Q and a.query_scale == "rotated" and not p.gguf.folded:  # by their position
        y = like("MUL", y, p.graph.input("attn_scale", (1, 1, p.tokens)))
    return like("SCALE", y) if which == Q and p.gguf.scaled_queries else y


def _rotated(p: GraphBuilder, cache: str, which: str, width: int, x: GgmlTensor) -> GgmlTensor:
    """``x`` times the rotation of a quantised cache."""
    side = p.context.rotation(which, width) if p.uniform else 0
    if not side:
        return x
    matrix = p.graph.input(f"{cache}_{which}_rot", (side, side))
    flat = op("CONT", x.shape, x) if x.strided else view(x)
    return view(op("MUL_MAT", x.shape, matrix, flat))


def _cached(
    p: GraphBuilder, a: Attention, h: Heads, q: GgmlTensor, k: GgmlTensor | None, v: GgmlTensor | None
) -> GgmlTensor:
    """The cache's write, where the layer has keys of its own, and the scores: [heads * width, T]."""
    if p.context.pooling:
        assert k is not None
        assert v is not None
        return uncached(p, a, h, q, k, v)
    cache = cache_of(p, a)
    q = _rotated(p, cache, "k", h.k_width, q)
    if k is None or v is None:
        p.graph.expand(q)
    else:
        k, v = _rotated(p, cache, "k", h.k_width, k), _rotated(p, cache, "v", h.v_width, v)
        for t in (q, k, v) if p.windows else (q, v, k):
            p.graph.expand(t)
        _write(p, cache, value_row(a, p.arch, False), k, v)
    y = scores_over(p, a, cache, h, q)
    p.graph.expand(y)
    return _rotated(p, cache, "v", h.v_width, y)


def _write(p: GraphBuilder, cache: str, width: int, k: GgmlTensor, v: GgmlTensor) -> None:
    """Keys and values into the cache; width: elements of a row of transposed values."""
    if not p.context.indexed:
        p.graph.expand(store(view(k)))
        p.graph.expand(store(view(v)))
        return
    k_at = p.graph.input(f"{cache}_k_idxs", (p.tokens,), "i64")
    p.graph.expand(store(view(k), k_at))
    if p.context.flash:
        v_at = p.graph.input(f"{cache}_v_idxs", (p.tokens,), "i64")
        p.graph.expand(store(view(v), v_at))
        return
    v_at = p.graph.input(f"{cache}_v_idxs", (p.tokens * width,), "i64")  # one row an element: transposed
    flat = view(v)
    if v.shape[0] * v.shape[1] < width:
        flat = op("PAD", (width, p.tokens), flat)
    elif v.strided:
        flat = op("CONT", (width, p.tokens), v)
    p.graph.expand(store(view(flat), v_at))


def _by_heads(p: GraphBuilder, a: Attention, kept: Attention, x: GgmlTensor) -> GgmlTensor:
    """MLA with keys and values expanded before the cache, which holds them by heads."""
    m, _, q, down, kv_norm = low_rank(p, a, x)
    h, T = heads_of(kept), p.tokens
    both = p.through(down, x)
    latent = p.norm(kv_norm, view(both, (m["kv_rank"], T), strided=True))
    wide = p.through(a.projections[-1], latent)
    k = view(wide, (m["nope"], h.keys, T), strided=True)
    v = op("CONT", (m["v"], h.keys, T), view(wide, (m["v"], h.keys, T), strided=True))
    q = p.rope(q, kept)
    shared = p.rope(view(both, (m["rope"], 1, T), strided=True), kept)
    k = op("CONCAT", (h.k_width, h.keys, T), k, op("REPEAT", (m["rope"], h.keys, T), shared))
    return _cached(p, kept, h, q, k, v)


def _latent(p: GraphBuilder, a: Attention, x: GgmlTensor) -> GgmlTensor:
    """MLA with the key expansion absorbed into the queries: one key of latent and rotary part for all heads."""
    m, rank, q, down, kv_norm = low_rank(p, a, x)
    h, T = heads_of(a), p.tokens
    if a.indexer is not None:
        p.chosen = chosen(p, a.indexer, x, rank)
    absorbed = op("MUL_MAT", (m["kv_rank"], T, h.queries), HELD, view(q, strided=True))
    p.parts[absorbed.number] = (a.projections[-1].name, m["nope"], m["nope"] + m["v"])
    rotary = turned(p, a, view(q, (m["rope"], h.queries, T), strided=True))
    q = op("CONCAT", (h.k_width, h.queries, T), view(absorbed), rotary)
    both = p.through(down, x)
    latent = p.norm(kv_norm, view(both, (m["kv_rank"], T), strided=True))
    shared = turned(p, a, view(both, (m["rope"], 1, T), strided=True))
    v = view(latent, (m["kv_rank"], 1, T))
    k = op("CONCAT", (h.k_width, 1, T), v, shared)
    for t in (q, v, k):
        p.graph.expand(t)
    at = (p.graph.input(f"{FULL}_k_idxs", (T,), "i64"),) if p.context.indexed else ()
    p.graph.expand(store(view(k), *at))
    y = scores_over(p, a, FULL, h, q)
    y = op("MUL_MAT", (m["v"], T, h.queries), HELD, view(y))
    p.parts[y.number] = (a.projections[-1].name, m["v"], m["nope"] + m["v"])
    y = op("CONT", (m["v"] * h.queries, T), view(y))
    if not p.context.flash:
        p.forced_host.add(y.number)
    return p.graph.expand(view(y))
