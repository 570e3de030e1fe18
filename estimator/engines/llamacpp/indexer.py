"""Sparse attention as llama.cpp runs it: an indexer with a cache of its own chooses keys; all others are masked out.

The attention kernel still walks the whole cache: what is chosen is a mask, filled anew in every layer, whose zeros are
a leaf each, so that those of all layers lie there from the start. Source: src/models/deepseek32.cpp, glm-dsa.cpp;
src/llama-graph.cpp (build_attn of llm_graph_input_attn_k_dsa); src/llama-kv-cache-dsa.cpp, build 11434.
"""

from __future__ import annotations

from estimator.engines.llamacpp.context import BUILD, ROTATED, Context, widest_rotation
from estimator.engines.llamacpp.graph import LEAF, GgmlTensor, cached, like, op, store, view
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Indexer

FUSED = 10068  # the earliest of xllamacpp's wheels whose scores are one kernel's (LIGHTNING_INDEXER)


def chosen(p: GraphBuilder, i: Indexer, x: GgmlTensor, rank: GgmlTensor) -> GgmlTensor:
    """Which keys each token looks at: indices [top, T]. x: the stream [d, T]; rank: the queries' latent."""
    c, T, heads, width = p.context, p.tokens, size(i.heads), size(i.head_dim)
    cells, each = c.cells, T // c.streams
    turn = p.graph.input("indexer_rot", (widest_rotation(width),) * 2)  # whatever type its keys are cached in

    def turned(t: GgmlTensor) -> GgmlTensor:
        return op("MUL_MAT", t.shape, turn, like("ROPE", t, p.positions()))

    q = turned(view(p.through(i.queries, rank), (width, heads, T)))
    k = turned(view(p.norm(i.norm, p.through(i.keys, x)), (width, 1, T)))
    p.graph.expand(store(view(k), p.graph.input("indexer_k_idxs", (T,), "i64")))
    assert i.weigh is not None
    weights = like("SCALE", view(p.through(i.weigh, x)))
    mask = p.graph.input("indexer_mask", (cells, each, 1, c.streams), "f16")
    scores = op("LIGHTNING_INDEXER", mask.shape, view(q), cached((width, cells, 1, c.streams), c.k), weights, mask)
    best = op("TOP_K", (min(cells, size(i.top)), each, 1, c.streams), scores, type="i32")
    return op("CONT", best.shape, best, type="i32")


def check_indexers(arch: Architecture, context: Context) -> None:
    """InputError for sparse attention that llama.cpp does not run, or not in this build."""
    found = [a.indexer for a in arch.attentions if a.indexer is not None]
    if found and context.build < FUSED:
        raise InputError(
            f"--engine-version b{context.build}: sparse attention is laid out as builds from {FUSED} on run it. "
            f"Use b{BUILD}"
        )
    if found and (first_layer(arch).indexer is None or size(found[0].head_dim) % ROTATED):
        raise InputError(
            f"llama.cpp runs sparse attention with an indexer in the first layer and keys of a multiple of {ROTATED} "
            f"numbers, which {arch.model_type} has not here"
        )


def first_layer(arch: Architecture) -> Attention:
    """The attention of layer 0."""
    layer = next(x for x in arch.layers if x.indices is None or 0 in x.indices)
    assert isinstance(layer.mixer, Attention)
    return layer.mixer


def masked(mask: GgmlTensor, best: GgmlTensor) -> GgmlTensor:
    """``mask`` with every key masked out but the chosen ones."""
    top, each, _, streams = best.shape
    zeros = like("FILL", GgmlTensor(LEAF, (1, top, each, streams)))
    empty = like("FILL", mask)
    open_ = GgmlTensor("SET_ROWS", mask.shape, (zeros, view(best), view(empty)), mask.type, root=empty)
    return like("ADD", view(open_), mask)
