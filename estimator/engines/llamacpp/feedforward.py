"""The feed-forward half of a layer as llama.cpp runs it: one MLP, or routed experts and a shared one.

Source: src/llama-graph.cpp (build_ffn, build_moe_ffn), build 11549.
"""

from __future__ import annotations

from estimator.engines.llamacpp.graph import HELD, GgmlTensor, like, op, view
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.families.base import MLP, MoE, Norm
from estimator.families.common_gguf import EXPERTS

UNARY = {"relu": "RELU", "silu": "SILU"}  # everything else is a GELU: one unary node in any case


def feed(p: GraphBuilder, block: MLP | MoE, x: GgmlTensor) -> GgmlTensor:
    """``x`` [d, rows] through the block."""
    return experts(p, block, x) if isinstance(block, MoE) else mlp(p, block, x)


def mlp(p: GraphBuilder, block: MLP, x: GgmlTensor) -> GgmlTensor:
    *up, down = block.linears
    rows = x.shape[1]
    if p.gguf.up_first:
        rise, gate = (p.through(layer, x) for layer in reversed(up))
        gate = like("GELU", _cut(gate) if block.sparse else gate)
        return p.through(down, like("MUL", rise, gate))
    if not block.gated:
        y = activated(block.act, p.through(up[0], x))
    elif block.fused and not p.gguf.split:
        y = _halves(p, block.act, p.through(up[0], x), (size(block.width), rows))
    else:
        wide, one = size(up[0].d_out), up[0]
        if len(up) > 1:
            gate, rise = (p.through(layer, x) for layer in up)
        else:
            gate, rise = (p.linear(x, size(block.width), one.bias, one.name, wide) for _ in range(2))
        y = _both(p, block, gate, rise)
    if block.norm is not None:
        y = p.norm(block.norm, y)
    return p.through(down, y)


def _both(p: GraphBuilder, block: MLP | MoE, gate: GgmlTensor, rise: GgmlTensor) -> GgmlTensor:
    """The activation of one half times the other: one node, or where both are bounded a node each.

    Before, two nodes that write over what they read: a gate's of an MLP (llm_build_ffn of build 4520), the other half's
    of experts (llm_build_moe_ffn).
    """
    if block.limited:
        return like("MUL", like("CLAMP", like("SILU", gate)), like("CLAMP", rise))
    if p.context.gated:
        return op("GLU", gate.shape, gate, rise)
    gate = like(UNARY.get(block.act, "GELU"), gate)
    return like("MUL", rise, gate) if isinstance(block, MoE) else like("MUL", gate, rise)


def _halves(p: GraphBuilder, act: str, both: GgmlTensor, shape: tuple[int, ...]) -> GgmlTensor:
    """The same of a product that holds both halves; before, each was copied out of it first."""
    if p.context.gated:
        return op("GLU", shape, both)
    gate, rise = (op("CONT", shape, view(both, shape, strided=True)) for _ in range(2))
    return like("MUL", like(UNARY.get(act, "GELU"), gate), rise)


def _cut(gate: GgmlTensor) -> GgmlTensor:
    """``gate`` with all but its largest numbers cut off: what is a multiple of the deviation above the mean."""
    mean = op("MEAN", (1, gate.shape[1]), gate)
    off = like("SQR", like("SUB", gate, mean))
    spread = like("SCALE", like("SQRT", like("SCALE", op("SUM_ROWS", mean.shape, off))))
    return like("RELU", like("SUB", gate, like("ADD", mean, spread)))


def activated(act: str, y: GgmlTensor) -> GgmlTensor:
    """The activation of an MLP without a gate."""
    return like("SQR", like("RELU", y)) if act == "relu2" else like(UNARY.get(act, "GELU"), y)


def side_by_side(p: GraphBuilder, block: MoE, before: Norm, x: GgmlTensor) -> GgmlTensor:
    """Experts and an MLP, each with norms of its own around it (Gemma 4)."""
    first, inner, second, _ = block.norms
    assert block.shared is not None
    chosen = p.linear(like("MUL", like("SCALE", like("RMS_NORM", x)), HELD), size(block.num))
    y = _routed(p, block, inner, x, chosen)
    dense = p.norm(first, mlp(p, block.shared, p.norm(before, x)))
    return like("ADD", dense, p.norm(second, y))


def experts(p: GraphBuilder, block: MoE, x: GgmlTensor) -> GgmlTensor:
    """Routed experts and, added to their sum, the shared one."""
    y = _routed(p, block, None, x, None)
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


def _routed(
    p: GraphBuilder, block: MoE, inner: Norm | None, x: GgmlTensor, logits: GgmlTensor | None
) -> GgmlTensor:
    """The sum of the chosen experts; inner: a norm of their own; logits: of a router that reads something else."""
    E, k, ff, d = size(block.num), size(block.per_token), size(block.width), x.shape[0]
    rows, router = x.shape[1], p.gguf.router
    biased = any(e.name.endswith("bias") for e in block.experts)
    if logits is None:
        logits = p.linear(x, E, any(getattr(r, "bias", False) for r in block.router))
    scores = (
        logits if router.score == "chosen" else like("SIGMOID" if router.score == "sigmoid" else "SOFT_MAX", logits)
    )
    chosen = _chosen(p, logits if router.first else scores, k)
    weights = op("GET_ROWS", (1, k, rows), view(scores, (1, E, rows)), chosen)
    if router.score == "chosen":
        weights = view(like("SOFT_MAX", view(weights, (k, rows))), (1, k, rows))
    normed, scaled = p.arch.facts.get(EXPERTS, (router.normed, False))
    if normed:
        flat = view(weights, (k, rows))
        total = like("CLAMP", op("SUM_ROWS", (1, rows), flat))
        weights = view(like("DIV", flat, total), (1, k, rows))
    if scaled:
        weights = like("SCALE", weights)
    p.graph.expand(weights)
    given = view(x if inner is None else p.norm(inner, x), (d, 1, rows))
    if router.first:
        given = like("MUL", op("REPEAT", (d, k, rows), given), weights)

    def each(n: int, t: GgmlTensor, part: str) -> GgmlTensor:
        name = block.experts[-1 if part == "down" else 0].name
        y = op("MUL_MAT_ID", (n, k, rows), HELD, t, chosen, weight=name)
        if part == "gate_up":
            p.parts[y.number] = (name, 2, 1)  # one tensor of the file, which is known by its halves
        y = p.adapted(y, t, name, part, chosen)
        return like("ADD_ID", y, HELD, chosen) if biased else y

    if block.gated and router.joined:
        mid = _halves(p, block.act, each(2 * ff, given, "gate_up"), (ff, k, rows))
    elif block.gated:
        gate, rise = each(ff, given, "gate"), each(ff, given, "up")
        mid = _both(p, block, gate, rise)
    else:
        mid = activated(block.act, each(ff, given, "up"))
    y = each(d, mid, "down")
    if router.scaled:
        y = like("MUL", y, op("GET_ROWS", (1, k, rows), op("REPEAT", (1, E, rows), HELD), chosen))
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
