"""Griffin's recurrent block: a gate beside a branch through a convolution and a gated linear recurrence (RG-LRU), which
transformers runs token by token.

Source: transformers 5.24, models/recurrent_gemma/modeling_recurrent_gemma.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from estimator.families.base import Extra, StateSpace
from estimator.stack import moves, ops, products
from estimator.stack.machine import Machine
from estimator.stack.nn import activation, linear
from estimator.stack.recurrent import convolve, hold, many
from estimator.stack.tape import BOOL, F32, GradFn, Tape, Tensor
from estimator.work.product import PROJECTION


def rg_lru(m: Machine, x: Tensor, s: StateSpace) -> Tensor:
    """RecurrentGemmaRecurrentBlock.forward. x [b, s, d] -> [b, s, d]."""
    t = m.t
    param, *gates = s.extras[:5]
    first = len(t.again or ())
    side = activation(t, linear(m, x, s.linears[0]), str(s.sizes["gate"]))
    last = len(t.again or ())
    x = convolve(m, linear(m, x, s.linears[1]), s, s.extras[5:])
    blocks = ops.copy(t, x, "blocks of the branch")  # tokens lie last after the convolution
    inner = ops.sigmoid(t, ops.copy(t, gate(m, blocks, s, gates[0], gates[1])))
    decay = ops.sigmoid(t, ops.copy(t, gate(m, blocks, s, gates[2], gates[3])))
    del blocks
    log_decay = ops.mul(t, ops.scale(t, decay), ops.unary(t, m.extra(param), "softplus", "input"), "log decay")
    decay = ops.unary(t, log_decay, "exp", "result")
    square = ops.unary(t, ops.scale(t, log_decay), "exp", "result")
    gated = ops.mul(t, x, inner, "gated input")
    root = ops.unary(t, ops.shift(t, ops.neg(t, square)), "square root", "input")
    reset = t.alloc(m.rows, BOOL, "first tokens")
    root = t.emit("multiplier", root.n, root.w, (root,), ops.where_bwd, reset.st)
    fed = ops.mul(t, gated, ops.to(t, root, x.w), "normalised input")
    decay = t.emit("decay, reset", decay.n, decay.w, (decay,), ops.where_bwd, reset.st)
    out = scan(m, s, fed, decay)
    if t.again is not None and t.stops:  # the module names the last state, whose graph holds what it was made of
        m.named_by_modules += [*t.again[:first], *t.again[last:]]
    return linear(m, ops.mul(t, out, side, "gated recurrence"), s.linears[2])


def gate(m: Machine, x: Tensor, s: StateSpace, weight: Extra, bias: Extra) -> Tensor:
    """torch.baddbmm over the blocks of the diagonal."""
    t, block = m.t, s.sizes["block"]
    a, w, b = t.autocast(x), t.autocast(m.extra(weight)), t.autocast(m.extra(bias))
    saved = (w.st if x.node is not None else None, a.st if w.node is not None else None)
    out = t.emit("gate", m.rows * s.inner, w.w, (a, w, b), _gate_bwd, saved, (a.n, w.n, b.n))
    products.log(
        t, out, weight.name, PROJECTION, m.rows, block, block, s.inner // block, operator="bmm", weight=w.n
    )
    return out


def _gate_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(
        None if p is None else t.alloc(n, g.w, "gradient of a product")
        for p, n in zip(node.ins, node.extra, strict=True)
    )


def scan(m: Machine, s: StateSpace, x: Tensor, decay: Tensor) -> Tensor:
    """_rnn_scan: each token's state and decay in fp32 are kept for the backward pass, the decays only once."""
    t, n = m.t, m.b * s.inner
    cast = int(x.w != F32)  # a token's input, and its state back
    slices = 1 + cast + int(decay.w != F32)
    moves.log(t, "states of the tokens, one by one", m.s * (2 + slices + cast), strided=slices * x.n,
              moved=x.n * (6 * F32 + cast * (F32 + x.w)))  # fmt: skip
    hold(m, 1, n, F32, "recurrent state")
    out = t.alloc(x.n, x.w, "output")
    made = Tensor(x.n, x.w, out.st)
    if t.grad and (x.node is not None or decay.node is not None):
        wide = decay.w == F32
        saved = many(t, m.s if wide else 2 * m.s, n, F32, "decays and states of the tokens")
        kept = (saved, decay.st) if wide else (saved,)
        t.record(made, (x, decay), _scan_bwd, kept, (((x.n, x.w), (decay.n, decay.w)), m.s))
    else:
        turn = [t.alloc(n, F32, "state") for _ in range(3)]
        del turn
    return made


def _token_by_token(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
    """Of each token: the output's gradient copied whole; the gradients of its state and its decay put into zeros of the
    whole sequence, and those added to what there is."""
    _, s = node.extra
    moves.log(t, "gradient of the output, copied", s, moved=s * 2 * g.n * g.w)
    for o in (o for o in outs if o is not None):
        moves.log(t, "gradient of a token, with zeros", 2 * s, moved=s * 4 * o.n * o.w)
    moves.log(t, "gradients of a token", 11 * s, strided=5 * g.n, moved=g.n * (9 * F32 + 3 * (F32 + g.w)))


@moves.moving(backward=_token_by_token)
def _scan_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """Every token's gradients come as zeros of the whole sequence, added in place."""
    copied = t.alloc(g.n, g.w, "gradient of the output, copied")
    sizes, _ = node.extra
    outs = [t.alloc(n, w, "gradient of a token's part") for n, w in sizes]
    more = t.alloc(max(n for n, _ in sizes), g.w, "gradient of one token, with zeros")
    del copied, more
    return tuple(o if p is not None else None for o, p in zip(outs, node.ins, strict=True))


__all__ = ["rg_lru"]
