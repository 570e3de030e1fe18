"""Experts that a loop runs one after the other (LongCat-Flash).

One turn of the loop is run with its operations; what the other turns keep for the backward pass, and what each of them
takes for a moment, is stated beside it. Tokens are taken as dealt evenly.

Source: transformers 5.17, models/longcat_flash/modeling_longcat_flash.py.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Extra, MoE
from estimator.ops import ceil_div
from estimator.stack import moves, ops
from estimator.stack.machine import Machine
from estimator.stack.moe import choose, gate, gather, log_experts, stacks
from estimator.stack.nn import UNLOGGED, product
from estimator.stack.parametrised import folded, with_factors
from estimator.stack.recurrent import many
from estimator.stack.tape import HALF, I64, GradFn, Tape, Tensor

PLACES = 2 * I64  # torch.where: a token's number, and which of its choices the expert was
LAUNCHES = 12  # of a turn beside its products: finding its tokens, picking, weighing and adding them


def routed(m: Machine, x: Tensor, block: MoE) -> Tensor:
    """LongcatFlashMoE.forward. x [rows, d] -> [rows, d]."""
    with m.t.at("experts"):
        _, weights, index = choose(m, x, block)
        return looped(m, x, block, weights, index)


def looped(m: Machine, x: Tensor, block: MoE, weights: Tensor, index: Tensor) -> Tensor:
    """LongcatFlashExperts.forward. x [rows, d] -> [rows, d]."""
    t, num = m.t, block.num + block.idle
    each = ceil_div(index.n, num)
    out = t.alloc(x.n, x.w, "experts' sum")
    chosen = t.alloc(index.n * num, I64, "expert mask")
    up, down, _, _ = stacks(block)
    lora = [folded(m, e.name, m.extra(e).n, m.extra(e)) for e in (up, down)]
    wide, last = (with_factors(m, m.extra(e), found) for e, found in zip((up, down), lora, strict=True))
    out = others(m, x, block, weights, (wide, last), out, each)
    places = t.alloc(2 * each, I64, "tokens of an expert")
    state = gather(t, x, each * block.d, places)
    worked = index.n * block.num // num  # what idle experts are given passes
    both = multiplied(m, state, wide, up, (each, worked), 2 * block.width, block)
    inner = gate(m, both, block)
    inner = multiplied(m, inner, last, down, (each, worked), block.d, block)
    weighed = ops.mul(t, inner, gather(t, weights, each, places), "weighted")
    source = ops.to(t, weighed, x.w)
    made = Tensor(out.n, out.w, out.st)
    t.record(made, (out, source), _added_bwd, (places.st, source.st), (each * block.d, source.w))
    del chosen
    return made


def multiplied(
    m: Machine, x: Tensor, stack: Tensor, extra: Extra, rows: tuple[Any, Any], d_out: Any, block: MoE
) -> Tensor:
    """F.linear with one expert's matrix: a view of the stack, which autocast converts anew. ``rows``: of this turn,
    and of all, for which the product is logged."""
    one = ops.piece(m.t, stack, extra.shape[1] * extra.shape[2])
    out = product(m.t, x, one, None, rows[0] * d_out, "output", part=UNLOGGED)
    log_experts(m.t, out, extra, rows[1], d_out, block)
    return out


def others(
    m: Machine, x: Tensor, block: MoE, weights: Tensor, stack: tuple[Tensor, Tensor], out: Tensor, each: Any
) -> Tensor:
    """The turns before the last: what they keep."""
    t, (up, down) = m.t, stack
    moves.log(t, "experts, one after the other", LAUNCHES * (block.num + block.idle - 1))
    nodes = (x.node, up.node, weights.node)
    if not t.grad or not any(nodes):
        return out
    w = HALF if t.amp else up.w
    n, active, idle = each, block.num - 1, block.idle
    of_both = [(2 * n, I64), (n * block.d, x.w), (n, weights.w)]  # places, what is added, what weighs it
    worked = [(n * 2 * block.width, w), (n * block.width, w), (n * block.d, w)]
    worked += [(n * block.d, w), (n * block.width, w)] if up.node is not None else []
    if w != up.w:
        worked += [(up.n // (block.num + block.idle), w), (down.n // block.num, w)]
    kept = [many(t, active, size, width, "kept of the experts before") for size, width in (*of_both, *worked)]
    kept += [many(t, idle, size, width, "kept of idle experts") for size, width in (*of_both, (n * block.d, x.w))]
    made = Tensor(out.n, out.w, out.st)
    t.record(made, (x, weights, up, down), _others_bwd, tuple(kept), (up.n // (block.num + block.idle), up.n, down.n))
    return made


def _others_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """Each turn's gradients come in tensors of the whole stack, added to those that the last turn has made."""
    one, *wholes = node.extra
    for size, into in zip(wholes, node.ins[2:], strict=True):
        if into is not None:
            part = t.alloc(one, g.w, "gradient of an expert")
            whole = t.alloc(size, into.w if into.leaf else g.w, "gradient of a slice")
            del part, whole
    return (None, None, None, None)


@moves.moving(moves.nothing, moves.nothing)
def _added_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """index_add_: the gradient passes to what was added to, and its rows to what was added."""
    n, w = node.extra
    return (g if node.ins[0] is not None else None, None if node.ins[1] is None else t.alloc(n, w, "gradient"))


__all__ = ["routed"]
