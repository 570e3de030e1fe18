"""Latent attention's low-rank projections as llama.cpp runs them. Source: src/models/deepseek2.cpp, build 11549."""

from __future__ import annotations

from estimator.engines.llamacpp.graph import GgmlTensor, view
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.families.base import Attention, Linear, Norm
from estimator.records import NamedTuple


class LowRank(NamedTuple):
    """The widths of MLA, its queries' latent (or the stream), its queries [width, heads, T], its down-projection, and
    the norm behind that.
    """

    widths: dict[str, int]
    rank: GgmlTensor
    q: GgmlTensor
    down: Linear
    norm: Norm


def low_rank(p: GraphBuilder, a: Attention, x: GgmlTensor) -> LowRank:
    m = {name: size(width) for name, width in (a.mla or {}).items() if width is not None}
    *queries, down, _ = a.projections
    *q_norm, kv_norm = a.norms
    rank = x
    for layer in queries[:-1]:
        rank = p.norm(q_norm[0], p.through(layer, rank))
    q = view(p.through(queries[-1], rank), (m["nope"] + m["rope"], size(a.heads), p.tokens))
    return LowRank(m, rank, q, down, kv_norm)


def turned(p: GraphBuilder, a: Attention, part: GgmlTensor) -> GgmlTensor:
    """The rotary part of queries or keys; Kimi Linear's latent attention has no positions."""
    return p.rope(part, a) if a.position == "rope" else part
