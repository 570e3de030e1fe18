"""Mixtures of experts as transformers 5 runs them: tokens sorted by expert, one grouped product for all experts.

Source: transformers integrations/moe.py, grouped_mm_experts_forward and, while generate() decodes,
batched_mm_experts_forward; and the families' router classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from estimator.families.base import MLP, Extra, Linear, MoE
from estimator.ops import minimum
from estimator.stack import gradients, moves, ops, products
from estimator.stack.dispatched import dispatched
from estimator.stack.feedforward import mlp, swiglu_oai
from estimator.stack.machine import Machine
from estimator.stack.nn import activation, linear, product
from estimator.stack.norms import norm
from estimator.stack.parametrised import delta, folded, with_delta, with_factors
from estimator.stack.products import ROUTER
from estimator.stack.routers import ROUTERS, best, normalised
from estimator.stack.shapes import clamp, masked, masked_bwd
from estimator.stack.tape import BOOL, F32, I64, GradFn, Tape, Tensor

# bytes a routed token of the sort, its tokens' numbers, their copy in 32 bits, the comparison and the bound against
# sentinels, a range, and the inverse permutation; beside them the counts of each expert, and their sums
SORTING = (24, 16, 12, 9, 16, 8, 32)
I32 = 4


def moe(m: Machine, x: Tensor, block: MoE) -> Tensor:
    """Routed experts and, where there are, shared ones."""
    t = m.t
    for _ in range(block.jitter if m.training else 0):
        x = jittered(t, x)
    if block.shared is None:
        _, weights, index = choose(m, x, block)
        return experts(m, x, block, weights, index)
    if block.shared_gate is not None or block.shared_first:
        shared = dense(m, x, block.shared)
        _, weights, index = choose(m, x, block)
        out = experts(m, x, block, weights, index)
        if block.shared_gate is not None:
            gate = ops.sigmoid(t, linear(m, x, block.shared_gate, None, ROUTER))
            shared = ops.mul(t, gate, shared, "gated shared experts")
            moves.fused(t, "gate", 3 * shared.n * shared.w)
        return ops.add(t, out, shared, "experts' sum")
    residual = x
    _, weights, index = choose(m, x, block)
    x = experts(m, x, block, weights, index)
    return ops.add(t, x, dense(m, residual, block.shared), "experts' sum")


def jittered(t: Tape, x: Tensor) -> Tensor:
    """x *= noise, which is kept."""
    noise = t.alloc(x.n, x.w, "noise")
    moves.log(t, "noise, and the product with it", 2, moved=4 * x.n * x.w)
    out = Tensor(x.n, x.w, x.st)
    if t.grad and x.node is not None:
        t.record(out, (x,), _jittered_bwd, noise.st)
    return out


def _of_noise(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    moves.log(t, "gradient of a product", moved=3 * g.n * g.w)


@moves.moving(backward=_of_noise)
def _jittered_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (t.alloc(g.n, g.w, "gradient of a product"),)


def normed_moe(m: Machine, x: Tensor, stream: Tensor, block: MoE) -> Tensor:
    """Gemma 4: the dense MLP on x, the router and the experts on the stream, each output normalised, and their sum."""
    after, before, after_experts, of_router = block.norms
    assert block.shared is not None
    first = norm(m, dense(m, x, block.shared), after)
    _, weights, index = choose(m, ops.scale(m.t, norm(m, stream, of_router)), block)
    second = experts(m, norm(m, stream, before), block, weights, index)
    return ops.add(m.t, first, norm(m, second, after_experts), "experts' sum")


def choose(m: Machine, x: Tensor, block: MoE) -> tuple[Tensor | None, Tensor, Tensor]:
    """The router's logits where the caller holds them, the weights and the chosen experts (``MoE.routing``)."""
    moves.fused(m.t, "routing", 2 * m.rows * block.num * x.w, 2)
    if block.routing in ROUTES:
        return (None, *ROUTES[block.routing](m, x, block))
    return ROUTERS[block.routing](m, x, block)


def dense(m: Machine, x: Tensor, block: MLP) -> Tensor:
    return mlp(m, x, block)


def route(m: Machine, x: Tensor, block: MoE) -> tuple[Tensor, Tensor]:
    """Softmax over all experts in fp32, the best k in the width of the logits: weights and indices."""
    logits = router_logits(m, x, block.router[0], block)
    weights, index = route_fp32(m, logits, block)
    return ops.to(m.t, weights, logits.w), index


def route_kept(m: Machine, x: Tensor, block: MoE) -> tuple[Tensor, Tensor]:
    """The same, left in fp32."""
    return route_fp32(m, router_logits(m, x, block.router[0], block), block)


def route_fp32(m: Machine, logits: Tensor, block: MoE) -> tuple[Tensor, Tensor]:
    weights, index = best(m, ops.softmax(m.t, logits, F32), block)
    return (normalised(m.t, weights, m.rows) if block.normed else weights), index


def route_best(m: Machine, x: Tensor, block: MoE) -> tuple[Tensor, Tensor]:
    """The best k logits, and their softmax."""
    logits = router_logits(m, x, block.router[0], block)
    weights, index = best(m, logits, block)
    return ops.softmax(m.t, weights, None), index


def route_best_fp32(m: Machine, x: Tensor, block: MoE) -> tuple[Tensor, Tensor]:
    """The same in fp32, then in the width of the input."""
    logits = ops.to(m.t, router_logits(m, x, block.router[0], block), F32)
    weights, index = best(m, logits, block)
    return ops.to(m.t, ops.softmax(m.t, weights, None), x.w), index


# MoE.routing, where the caller does not hold the logits
ROUTES = {
    "softmax": route, "softmax_kept": route_kept, "best_softmax": route_best, "best_softmax_fp32": route_best_fp32,
}  # fmt: skip


def router_logits(m: Machine, x: Tensor, router: Any, block: MoE) -> Tensor:
    name = router.name.removesuffix(".weight")
    spec = m.adapters(name)
    if spec is None or not spec.parameter:
        return linear(m, x, router if isinstance(router, Linear) else Linear(name, block.d, block.num), None, ROUTER)
    weight = m.weight(router)[0] if isinstance(router, Linear) else m.extra(router)
    made = with_delta(m, weight, delta(m, name, weight.n, weight))
    return product(m.t, x, made, None, m.rows * block.num, "output", False, name, ROUTER, m.rows)


def experts(m: Machine, x: Tensor, block: MoE, weights: Tensor, index: Tensor) -> Tensor:
    """The routed experts, in a width of their own where they have one."""
    if not block.latent:
        return grouped_experts(m, x, block, weights, index)
    down, up = block.latent
    return linear(m, grouped_experts(m, linear(m, x, down), block, weights, index), up)


def copied_experts(m: Machine, x: Tensor, block: MoE, weights: Tensor, n: Any) -> Tensor:
    """batched_mm_experts_forward: each routed token multiplies with a copy of its expert, the second of which is made
    while the first is there."""
    t = m.t
    rows = t.alloc(n * block.d, x.w, "tokens, one for each of their experts")
    chosen = t.alloc(n, I64, "experts, clamped")
    up, down, up_bias, down_bias = stacks(block)
    held, out = _copied(m, n, up, up_bias, block.width * 2 if block.gated else block.width)
    out = gate(m, out, block)
    held, out = _copied(m, n, down, down_bias, block.d)
    out = ops.mul(t, out, weights, "weighted")
    del rows, chosen, held
    return ops.to(t, t.emit("experts' sum", x.n, out.w, (out,), _sum_bwd, None, out.n), x.w)


def _copied(m: Machine, n: Any, stack: Extra, bias: Extra | None, d_out: Any) -> tuple[list[Tensor], Tensor]:
    """The copies that ``n`` routed tokens multiply with, and the product of ``d_out`` a token."""
    weight = m.extra(stack)
    made = [m.t.alloc(n * stack.shape[1] * stack.shape[2], weight.w, "copies of the chosen experts")]
    if bias is not None:
        made.append(m.t.alloc(n * bias.shape[-1], weight.w, "copies of the chosen experts' biases"))
    return made, m.t.alloc(n * d_out, weight.w, "output")


def grouped_experts(m: Machine, x: Tensor, block: MoE, weights: Tensor, index: Tensor) -> Tensor:
    """grouped_mm_experts_forward."""
    t = m.t
    n = index.n * block.num // (block.num + block.idle)  # what idle experts are given passes
    if m.copies_experts:
        return copied_experts(m, x, block, weights, n)
    if m.kernels.experts:
        return dispatched(m, x, stacks(block)[:2], block, weights, n, partial(_multiplied, m, block, n))
    moves.log(t, "sorting by expert", len(SORTING) + 2, sum(SORTING) * n + 2 * I32 * block.num, block.num)
    sort_ids = t.alloc(n, I64, "sorted experts")
    perm = t.alloc(n, I64, "permutation")
    source = t.alloc(n, I64, "tokens by expert")
    moves.fused(t, "permute", 2 * n * block.d * x.w, 2)
    chosen = gather(t, x, n * block.d, source)
    sorted_weights = gather(t, weights, n, perm)
    mask = t.alloc(n, BOOL, "sentinel mask")
    up, down, up_bias, down_bias = stacks(block)
    lora = [folded(m, e.name, m.extra(e).n, m.extra(e)) for e in (down, up)]
    added = biases(m, up_bias, n, sort_ids) if up_bias is not None else None
    masked_in_place(t, chosen, mask)
    wide = block.width * 2 if block.gated else block.width
    first = with_factors(m, m.extra(up), lora[1])  # both are held while the module runs
    out = grouped(m, chosen, first, n * wide, added)
    log_experts(m.t, out, up, n, wide, block)
    out = masked(t, out, mask)
    moves.fused(t, "activation", (3 if block.gated else 2) * n * block.width * out.w)
    out = gate(m, out, block)
    added = biases(m, down_bias, n, sort_ids) if down_bias is not None else None
    second = with_factors(m, m.extra(down), lora[0])
    out = grouped(m, out, second, n * block.d, added)
    log_experts(m.t, out, down, n, block.d, block)
    out = masked(t, out, mask)
    moves.fused(t, "unpermute", 2 * n * block.d * out.w, 2)
    weighted = ops.mul(t, out, sorted_weights, "weighted")
    inverse = t.alloc(n, I64, "inverse permutation")
    weighted = gather(t, weighted, weighted.n, inverse)
    return ops.to(t, t.emit("experts' sum", x.n, weighted.w, (weighted,), _sum_bwd, None, weighted.n), x.w)


def _multiplied(m: Machine, block: MoE, rows: Any, x: Tensor, stack: Extra, n: Any) -> Tensor:
    """One grouped product of ``rows`` routed tokens, logged."""
    weight = m.extra(stack)
    out = grouped(m, x, with_factors(m, weight, folded(m, stack.name, weight.n, weight)), n, None)
    log_experts(m.t, out, stack, rows, n // rows, block)
    return out


def stacks(block: MoE) -> tuple[Extra, Extra, Extra | None, Extra | None]:
    """The stacked weights and biases: up (or gate and up), down."""
    weights = [e for e in block.experts if not e.name.endswith("bias")]
    if len(weights) > 2:  # DBRX: gate, up and down, each as one matrix of all experts
        first, _, last = weights
        shape = (block.num, block.width, block.d)
        weights = [first._replace(shape=(block.num, 2 * block.width, block.d)), last._replace(shape=shape)]
    bias = [e for e in block.experts if e.name.endswith("bias")]
    return weights[0], weights[1], bias[0] if bias else None, bias[1] if bias else None


def gate(m: Machine, out: Tensor, block: MoE) -> Tensor:
    """_apply_gate."""
    t = m.t
    if block.act == "clamped_swiglu":  # gpt-oss: interleaved halves
        return swiglu_oai(t, ops.piece(t, out, out.n // 2), ops.piece(t, out, out.n // 2))
    if not block.gated:
        return activation(t, out, block.act)
    first, second = ops.split(t, out, (out.n // 2, out.n // 2))
    if block.act == "swiglu_oai":
        return swiglu_oai(t, first, second)
    if block.clamped:
        first, second = clamp(t, first, 1), clamp(t, second)
    return ops.mul(t, activation(t, first, block.act), second, "gated")


def grouped(m: Machine, x: Tensor, weight: Tensor, n: Any, bias: Tensor | None) -> Tensor:
    """torch._grouped_mm: saves its input where the experts train; a bias is added in place."""
    t = m.t
    a, w = ops.to(t, x, weight.w), weight
    saved = (a.st if weight.node is not None else None, w.st)
    ins = (a, w) if bias is None else (a, w, bias)
    if bias is not None:
        moves.log(t, "bias, added in place", moved=3 * n * w.w)
    return t.emit("output", n, w.w, ins, _grouped_bwd, saved, (a.n, w.n))


def log_experts(t: Tape, out: Tensor, stack: Extra, rows: Any, d_out: Any, block: MoE) -> None:
    """The routed tokens meet the matrix of their expert each; of the stack, those that are chosen are read."""
    if t.work is not None:
        one = stack.shape[1] * stack.shape[2]
        products.log(t, out, stack.name, products.EXPERTS, rows, one // d_out, d_out, operator="experts",
                     weight=minimum(rows, block.num) * one)  # fmt: skip


@moves.moving(moves.nothing, moves.nothing)
def _grouped_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    ins = node.ins
    dx = None if ins[0] is None else t.alloc(node.extra[0], g.w, "gradient of the input")
    dw = None if ins[1] is None else t.alloc(node.extra[1], g.w, "gradients of the experts")
    if dw is not None:
        dw.view = True
    return (dx, dw, g) if len(ins) > 2 else (dx, dw)


def biases(m: Machine, stack: Extra, n: Any, index: Tensor) -> Tensor:
    """One row of the stacked biases for each routed token."""
    p = m.extra(stack)
    return gather(m.t, p, n * stack.shape[-1], index)


def gather(t: Tape, x: Tensor, n: Any, index: Tensor) -> Tensor:
    """x[index]: saves the index; its backward pass scatters into zeros."""
    return t.emit("gathered", n, x.w, (x,), _gather_bwd, index.st, (x.n, index.n))


@moves.moving(moves.gathered, gradients.put_back)
def _gather_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    n, count = node.extra
    out = t.alloc(n, g.w, "gradient of a gather")
    held = [t.alloc(count, I64, "sorting the index") for _ in range(4)]
    del held
    return (out,)


def masked_in_place(t: Tape, x: Tensor, mask: Tensor) -> None:
    moves.log(t, "masked in place", strided=x.n)
    if t.grad and x.node is not None:
        t.record(x, (Tensor(x.n, x.w, x.st, x.node, x.idx),), masked_bwd, mask.st)


@moves.moving(moves.reduced, gradients.spread)
def _sum_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """The expanded gradient is copied to be viewed as one row a routed token."""
    return (t.alloc(node.extra, g.w, "gradient, expanded"),)
