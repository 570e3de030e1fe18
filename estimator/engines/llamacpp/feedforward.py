"""The feed-forward half of a layer as llama.cpp runs it: one MLP, or routed experts and a shared one.

Source: src/llama-graph.cpp (build_ffn, build_moe_ffn), build 11549.
"""

from __future__ import annotations

from estimator.engines.llamacpp.graph import HELD, GgmlTensor, like, op, view
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.families.base import MLP, MoE

UNARY = {"relu": "RELU", "silu": "SILU"}  # everything else is a GELU: one unary node in any case


def feed(p: GraphBuilder, block: MLP | MoE, x: GgmlTensor) -> GgmlTensor:
    """``x`` [d, rows] through the block."""
    return experts(p, block, x) if isinstance(block, MoE) else mlp(p, block, x)


def mlp(p: GraphBuilder, block: MLP, x: GgmlTensor) -> GgmlTensor:
    *up, down = block.linears
    rows = x.shape[1]
    if not block.gated:
        y = p.through(up[0], x)
        y = like(UNARY.get(block.act, "GELU"), y)
    elif block.fused:
        y = op("GLU", (size(block.width), rows), p.through(up[0], x))
    else:
        gate, rise = (p.through(layer, x) for layer in up)
        y = op("GLU", gate.shape, gate, rise)
    return p.through(down, y)


def experts(p: GraphBuilder, block: MoE, x: GgmlTensor) -> GgmlTensor:
    """Routed experts and, added to their sum, the shared one."""
    y = _routed(p, block, x)
    if block.shared is None or not size(block.shared.width):
        return y
    shared = mlp(p, block.shared, x)
    if block.shared_gate is not None:
        shared = like("MUL", shared, _opening(p, x))
    return like("ADD", y, shared)


def _opening(p: GraphBuilder, x: GgmlTensor) -> GgmlTensor:
    """How far a shared expert's gate is open, a number a row; some graphs write the sigmoid as silu(g) / g."""
    gate = p.linear(x, 1)
    if p.gguf.router.opened == "division":
        return like("DIV", like("SILU", gate), gate)
    return like("SIGMOID", gate)


def _routed(p: GraphBuilder, block: MoE, x: GgmlTensor) -> GgmlTensor:
    E, k, ff, d = size(block.num), size(block.per_token), size(block.width), x.shape[0]
    rows, router = x.shape[1], p.gguf.router
    biased = any(e.name.endswith("bias") for e in block.experts)
    logits = p.linear(x, E, any(getattr(r, "bias", False) for r in block.router))
    scores = (
        logits if router.score == "chosen" else like("SIGMOID" if router.score == "sigmoid" else "SOFT_MAX", logits)
    )
    chosen = _chosen(p, logits if router.first else scores, k)
    weights = op("GET_ROWS", (1, k, rows), view(scores, (1, E, rows)), chosen)
    if router.score == "chosen":
        weights = view(like("SOFT_MAX", view(weights, (k, rows))), (1, k, rows))
    if router.normed:
        flat = view(weights, (k, rows))
        total = like("CLAMP", op("SUM_ROWS", (1, rows), flat))
        weights = view(like("DIV", flat, total), (1, k, rows))
    p.graph.expand(weights)
    given = view(x, (d, 1, rows))
    if router.first:
        given = like("MUL", op("REPEAT", (d, k, rows), given), weights)

    def each(n: int, t: GgmlTensor) -> GgmlTensor:
        name = block.experts[-1 if n == d else 0].name
        y = op("MUL_MAT_ID", (n, k, rows), HELD, t, chosen, weight=name)
        return like("ADD_ID", y, HELD, chosen) if biased else y

    if block.gated:
        gate, rise = each(ff, given), each(ff, given)
        inner = op("GLU", gate.shape, gate, rise)
    else:
        inner = like(UNARY.get(block.act, "GELU"), each(ff, given))
    y = each(d, inner)
    if not router.first:
        y = like("MUL", y, weights)
    p.graph.expand(y)
    parts = [p.graph.expand(view(y, (d, rows), strided=True)) for _ in range(k)]
    if k == 1:
        return op("CONT", (d, rows), parts[0])
    total = parts[0]
    for part in parts[1:]:
        total = p.graph.expand(like("ADD", total, part))
    return total


def _chosen(p: GraphBuilder, scores: GgmlTensor, k: int) -> GgmlTensor:
    """Indices of the k best experts a row, among the best groups where experts stand in groups."""
    if p.gguf.router.corrected:
        scores = like("ADD", scores, HELD)
    E, rows = scores.shape[0], scores.shape[1]
    groups, kept = p.arch.facts.get("expert_groups", (1, 1))
    if groups > 1:
        scores = _grouped(scores, E // groups, groups, kept, rows)
    return view(op("ARGSORT", (E, rows), scores, type="i32"), (k, rows), strided=True)


def _grouped(scores: GgmlTensor, n: int, groups: int, kept: int, rows: int) -> GgmlTensor:
    """Scores with all groups but the best masked out: a group counts by the sum of its two best experts."""
    wide = view(scores, (n, groups, rows))
    best = view(op("ARGSORT", (n, groups, rows), wide, type="i32"), (2, groups, rows), strided=True)
    two = op("GET_ROWS", (1, 2, groups, rows), view(wide, (1, n, groups, rows)), best)
    sums = view(op("SUM_ROWS", (1, groups, rows), view(two, (2, groups, rows))), (groups, rows))
    which = view(op("ARGSORT", (groups, rows), sums, type="i32"), (kept, rows), strided=True)
    picked = op("GET_ROWS", (n, kept, rows), wide, which)
    empty = like("FILL", wide)
    filled = GgmlTensor("SET_ROWS", wide.shape, (picked, which, empty), root=empty)
    return view(filled, (n * groups, rows))
