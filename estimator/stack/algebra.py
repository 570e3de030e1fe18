"""Operations on an adapter's own matrices: products that both train, quotients, norms, systems of equations, indices.

What each saves and holds follows tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp, and was
held to the allocator's record of every peft layer (tests/accuracy/peft_layers.json.gz).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.ops import maximum
from estimator.stack import ops
from estimator.stack.tape import F32, I64, GradFn, Tape, Tensor, to_backward

Grads = tuple[Tensor | None, ...]
Sizes = Sequence[tuple[Any, int]]  # (elements, bytes of each) of what an operation holds while it runs


def op(
    t: Tape, what: str, n: Any, w: int, ins: Sequence[Tensor], saves: Sequence[Tensor] = (), held: Sizes = (),
    back: Sizes = (), result: bool = False,
) -> Tensor:
    """One operation: what it saves (``result``: its own output too), buffers that it holds (``held``), and those that
    its backward formula holds beside the gradients (``back``)."""
    made = [t.alloc(k, b, "temporary") for k, b in held]
    saved = tuple([s.st for s in saves]) or None
    out = t.emit(what, n, w, ins, _op_bwd, saved, ([(i.n, i.w) for i in ins], back))
    if result and out.node is not None and out.node.saved is not None:
        out.node.saved = (*out.node.saved, out.st)
    del made
    return out


def _op_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    sizes, back = node.extra
    made = [t.alloc(k, b, "backward temporary") for k, b in back]
    outs = [None if p is None else t.alloc(n, w, "gradient") for p, (n, w) in zip(node.ins, sizes, strict=True)]
    del made
    return tuple(outs)


def mm(t: Tape, a: Tensor, b: Tensor, n: Any, what: str = "product") -> Tensor:
    """torch.mm, ``@``: ``n`` results; saves each factor that the other's gradient needs."""
    return ops.matmul(t, a, b, n, None, what)


def scale_into(t: Tape, a: Tensor, b: Tensor) -> Tensor:
    """a.add_(b, alpha=number): nothing is allocated; the gradient of b is scaled."""
    out = Tensor(a.n, a.w, a.st)
    if t.grad and (a.node is not None or b.node is not None):
        t.record(out, (a, b), _scale_into_bwd)
    return out


def _scale_into_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (g, None if node.ins[1] is None else t.alloc(g.n, g.w, "gradient, scaled"))


def div(t: Tape, a: Tensor, b: Tensor, what: str = "quotient") -> Tensor:
    """a / b, ``b`` broadcast: saves the divisor, and both where the divisor has a gradient."""
    w = a.w if a.w >= b.w else b.w
    saved = (b.st, a.st if b.node is not None else None)
    return t.emit(what, a.n, w, (a, b), _div_bwd, saved, ((a.n, a.w), (b.n, b.w)))


def _div_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """div_tensor_other_grad: -grad * ((self / other) / other), then summed."""
    sizes = node.extra
    other = None
    if node.ins[1] is not None:
        negated, first, second = (t.alloc(g.n, g.w, "backward temporary") for _ in range(3))
        whole = t.alloc(g.n, g.w, "gradient of a divisor")
        del negated, first, second
        own = None if node.ins[0] is None else t.alloc(g.n, g.w, "gradient of a quotient")
        other = ops.reduced(t, whole, sizes[1])
        del whole
    else:
        own = None if node.ins[0] is None else t.alloc(g.n, g.w, "gradient of a quotient")
    return (None if own is None else ops.reduced(t, own, sizes[0]), other)


def norm(t: Tape, x: Tensor, n: Any) -> Tensor:
    """x.norm(dim): ``n`` results; norm_backward multiplies x by the gradient over the norm, zeros masked."""
    return op(t, "norm", n, x.w, (x,), (x,), back=((n, x.w), (x.n, x.w)))


def solve(t: Tape, a: Tensor, b: Tensor) -> Tensor:
    """torch.linalg.solve(a, b, left=False) of a batch of systems: keeps the matrix, its factors and the solution."""
    factors = t.alloc(a.n, a.w, "LU factors")
    return op(t, "solution", b.n, b.w, (a, b), (a, factors), back=((b.n, b.w),), result=True)


def repeated(t: Tape, x: Tensor, times: Any) -> Tensor:
    """x.repeat(...): a copy ``times`` as large; the gradient is summed."""
    return op(t, "repeated", x.n * times, x.w, (x,))


def summed(t: Tape, x: Tensor, n: Any) -> Tensor:
    """x.sum(dim): ``n`` results; the gradient is a view of the one that arrives, spread."""
    return t.emit("sum", n, x.w, (x,), _spread_bwd, None, x.n)


def _spread_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (Tensor(node.extra, g.w, g.st),)


def looked_up(t: Tape, table: Tensor, n: Any, index: Tensor | None = None) -> Tensor:
    """table[index]: ``n`` numbers; the gradient is put into zeros of the table's size."""
    rows = n if index is None else index.n
    return op(t, "looked up", n, table.w, (table,), (index,) if index is not None else (), back=((rows, I64),) * 3)


def placed(t: Tape, zeros: Tensor, values: Tensor, index: Tensor) -> Tensor:
    """zeros[index] = values (index_put_): the gradient is read where the values were put."""
    out = Tensor(zeros.n, zeros.w, zeros.st)
    if t.grad and values.node is not None:
        t.record(out, (values,), _placed_bwd, (index.st,), (values.n, values.w))
    return out


def _placed_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    n, w = node.extra
    return (t.alloc(n, w, "gradient of the values"),)


def skew(t: Tape, angles: Tensor, index: Tensor, n: Any) -> Tensor:
    """A skew-symmetric matrix from its upper triangle: zeros, filled, less their transpose (``n`` numbers)."""
    return antisymmetric(t, placed(t, t.alloc(n, angles.w, "angles in a triangle"), angles, index))


def antisymmetric(t: Tape, x: Tensor) -> Tensor:
    """x - x^T."""
    return t.emit("skew-symmetric matrix", x.n, x.w, (x,), _antisymmetric_bwd)


def _antisymmetric_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """Of both terms, of which the second is negated, transposed and added to the first."""
    negated = t.alloc(g.n, g.w, "gradient, negated")
    whole = t.alloc(g.n, g.w, "gradients, added")
    del negated
    return (whole,)


def neumann(t: Tape, q: Tensor, blocks: Any, side: Any, terms: int) -> Tensor:
    """1 + 2 (Q + Q^2 + ...) + Q^terms, the Cayley transform as a series of ``terms`` terms, of ``blocks`` blocks."""
    n = blocks * side * side
    eye = t.alloc(side * side, q.w, "identity matrix")
    r = t.alloc(n, q.w, "identity matrices")
    del eye
    if terms > 1:
        r = scale_into(t, r, q)
    if terms > 2:
        power = mm(t, q, q, n, "Q^2")
        r = scale_into(t, r, power)
        for _ in range(3, terms - 1):
            power = mm(t, power, q, n, "power of Q")
            r = scale_into(t, r, power)
        power = mm(t, power, q, n, "power of Q")
        r = ops.add_into(t, r, power)
    return r


def cayley(t: Tape, q: Tensor, blocks: Any, side: Any) -> Tensor:
    """(1 - Q)(1 + Q)^-1 of ``blocks`` skew-symmetric blocks, solved in fp32."""
    eye = t.alloc(side * side, F32, "identity matrix")
    plus, minus = ops.shift(t, q, "1 + Q", F32), ops.shift(t, q, "1 - Q", F32)
    del eye
    return solve(t, plus, minus)



def outer(t: Tape, a: Tensor, b: Tensor, n: Any, what: str) -> Tensor:
    """Every number of one times every number of the other: ``n`` results (torch.kron)."""
    saved = (b.st if a.node is not None else None, a.st if b.node is not None else None)
    return t.emit(what, n, a.w, (a, b), ops.mul_bwd, saved, ((a.n, a.w), (b.n, b.w)))


def dropped_into(t: Tape, x: Tensor, drop: Tensor) -> Tensor:
    """x *= drop: nothing is allocated; a view was changed, so the gradient is cloned twice (CopySlices)."""
    out = Tensor(x.n, x.w, x.st)
    if t.grad and x.node is not None:
        t.record(out, (x,), _op_bwd, (drop.st,), ([(x.n, x.w)], ((x.n, x.w), (x.n, maximum(x.w, drop.w)))))
    return out


def sparse_added(t: Tape, dense: Tensor, values: Tensor, index: Tensor, held: Sizes) -> Tensor:
    """dense += a sparse tensor of ``values`` at ``index``: in place, in the wider format where the formats differ."""
    made = [t.alloc(k, b, "in the wider format") for k, b in held]
    places = t.alloc(values.n, I64, "places, in one number")
    del places, made
    added, out = Tensor(dense.n, values.w, dense.st), Tensor(dense.n, dense.w, dense.st)
    if t.grad and values.node is not None:
        t.record(added, (values,), _sparse_bwd, (values.st, index.st), (values.n, values.w))
        t.record(out, (added,), to_backward, None, values.w)
    return out


def _sparse_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """The dense gradient, masked by the places of the values."""
    n, w = node.extra
    found = t.alloc(n, w, "gradient at the places")
    places, made = t.alloc(n, 2 * I64, "places"), t.alloc(n, w, "gradient of the values")
    del found, places
    return (made,)
