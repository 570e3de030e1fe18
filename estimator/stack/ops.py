"""The operations that modeling files are written in: what each allocates, saves and gives back.

Every function takes the tape first. What is saved and which temporaries a backward formula holds follow
tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.stack import gradients, moves, products
from estimator.stack.tape import BOOL, F32, HALF, RESULT, GradFn, Tape, Tensor

Grads = tuple[Tensor | None, ...]


def to(t: Tape, x: Tensor, w: int) -> Tensor:
    """``x.to(dtype)``: nothing where the width is already right."""
    if x.w == w:
        return x
    return t.emit("converted copy", x.n, w, (x,), _to_bwd, None, x.w)


@moves.moving(backward=gradients.sums_of_one)
def _to_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (g if g.w == node.extra else t.alloc(g.n, node.extra, "gradient, converted"),)


def reduced(t: Tape, g: Tensor, like: tuple[Any, int]) -> Tensor:
    """``g`` summed to the shape, and converted to the width, of an input that was broadcast or promoted."""
    n, w = like
    if g.n != n:
        g = t.alloc(n, g.w, "gradient, summed")
    if g.w != w:
        g = t.alloc(n, w, "gradient, converted")
    return g


def add(t: Tape, a: Tensor, b: Tensor, what: str = "sum") -> Tensor:
    """a + b: the gradient passes through to both."""
    n, w = (a.n if a.n >= b.n else b.n), (a.w if a.w >= b.w else b.w)
    return t.emit(what, n, w, (a, b), _add_bwd, None, ((a.n, a.w), (b.n, b.w)))


@moves.moving(backward=gradients.sums)
def _add_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    a, b = node.extra
    ins = node.ins
    ga = None if ins[0] is None else g if a == (g.n, g.w) else reduced(t, g, a)
    return (ga, None if ins[1] is None else g if b == (g.n, g.w) else reduced(t, g, b))


def add_into(t: Tape, a: Tensor, b: Tensor) -> Tensor:
    """a.add_(b): nothing is allocated."""
    out = Tensor(a.n, a.w, a.st)
    if t.grad and (a.node is not None or b.node is not None):
        t.record(out, (a, b), _add_bwd, None, ((a.n, a.w), (b.n, b.w)))
    return out


def sub(t: Tape, a: Tensor, b: Tensor, what: str = "difference") -> Tensor:
    """a - b: the gradient passes through to ``a`` and is negated for ``b``."""
    n, w = (a.n if a.n >= b.n else b.n), (a.w if a.w >= b.w else b.w)
    return t.emit(what, n, w, (a, b), _sub_bwd, None, ((a.n, a.w), (b.n, b.w)))


@moves.moving(backward=gradients.differences)
def _sub_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    a, b = node.extra
    gb = None if node.ins[1] is None else reduced(t, t.alloc(g.n, g.w, "gradient, negated"), b)
    return (None if node.ins[0] is None else reduced(t, g, a), gb)


def mul(t: Tape, a: Tensor, b: Tensor, what: str = "product") -> Tensor:
    """a * b: saves each factor that the other's gradient needs."""
    n, w = (a.n if a.n >= b.n else b.n), (a.w if a.w >= b.w else b.w)
    saved = (b.st if a.node is not None else None, a.st if b.node is not None else None)
    return t.emit(what, n, w, (a, b), mul_bwd, saved, ((a.n, a.w), (b.n, b.w)))


@moves.moving(backward=gradients.multiplied)
def mul_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """Both products, then their sums and conversions (validate_outputs). In a checkpointed layer what was unpacked
    for the products is gone by then."""
    made = [None if p is None else t.alloc(g.n, g.w, "gradient of a product") for p in node.ins]
    if node.frame is not None:
        node.saved = None
    outs: list[Tensor | None] = []
    for i, like in enumerate(node.extra):
        big, made[i] = made[i], None
        outs.append(None if big is None else reduced(t, big, like))
    return tuple(outs)


def scale(t: Tape, x: Tensor, what: str = "scaled") -> Tensor:
    """x * number: saves nothing; its backward pass multiplies too."""
    return t.emit(what, x.n, x.w, (x,), fresh_bwd)


def shift(t: Tape, x: Tensor, what: str = "shifted", w: int | None = None) -> Tensor:
    """x + number: the gradient passes through."""
    return t.emit(what, x.n, w or x.w, (x,), _to_bwd, None, x.w)


def add_spread(t: Tape, x: Tensor, what: str, w: int | None = None) -> Tensor:
    """x + a smaller tensor without gradient (a mask, a row) that is spread over it: the gradient passes through."""
    return t.emit(what, x.n, w or x.w, (x,), _add_spread_bwd, None, x.w)


_add_spread_bwd = moves.likewise(_to_bwd, moves.masked, gradients.sums_of_one)


def neg(t: Tape, x: Tensor) -> Tensor:
    return t.emit("negated", x.n, x.w, (x,), fresh_bwd)


def fresh_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """A new gradient of the same size."""
    return (t.alloc(g.n, g.w, "gradient"),)


def unary(t: Tape, x: Tensor, what: str, saves: str, temporaries: int = 0) -> Tensor:
    """A pointwise function that saves its ``input``, its ``result`` or ``none``; ``temporaries``: full-size buffers
    that its backward formula holds beside the gradient."""
    saved = x.st if saves == "input" else RESULT if saves == "result" else None
    return t.emit(what, x.n, x.w, (x,), unary_bwd, saved, (temporaries, saves))


@moves.moving(backward=gradients.through)
def unary_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    held = [t.alloc(g.n, g.w, "backward temporary") for _ in range(node.extra[0])]
    out = t.alloc(g.n, g.w, "gradient")
    del held
    return (out,)


def silu(t: Tape, x: Tensor) -> Tensor:
    return unary(t, x, "silu", "input")


def gelu(t: Tape, x: Tensor) -> Tensor:
    return unary(t, x, "gelu", "input")


def relu(t: Tape, x: Tensor) -> Tensor:
    return unary(t, x, "relu", "result")


def tanh(t: Tape, x: Tensor) -> Tensor:
    return unary(t, x, "tanh", "result")


def sigmoid(t: Tape, x: Tensor) -> Tensor:
    return unary(t, x, "sigmoid", "result")


def power(t: Tape, x: Tensor) -> Tensor:
    """x ** k in fp32 under autocast: grad * (k * x ** (k-1)), two temporaries."""
    if t.amp and x.w == HALF:
        x = to(t, x, F32)
    return unary(t, x, "power", "input", 2)


def mean(t: Tape, x: Tensor, rows: Any) -> Tensor:
    """x.mean(-1, keepdim=True): ``rows`` results; the gradient is expanded and divided."""
    return t.emit("mean", rows, x.w, (x,), _mean_bwd, None, x.n)


@moves.moving(moves.reduced, gradients.spread)
def _mean_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (t.alloc(node.extra, g.w, "gradient of a mean"),)


def cat(t: Tape, parts: Sequence[Tensor], what: str = "concatenated") -> Tensor:
    """torch.cat: the gradients are views of the incoming one."""
    n = sum(p.n for p in parts)
    return t.emit(what, n, max(p.w for p in parts), parts, _cat_bwd, None, [p.n for p in parts])


@moves.moving(moves.joined, gradients.parted)
def _cat_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return tuple(None if p is None else Tensor(n, g.w, g.st) for p, n in zip(node.ins, node.extra, strict=True))


def piece(t: Tape, x: Tensor, n: Any) -> Tensor:
    """A slice or a selected index: a view, whose backward pass fills a zero tensor of the whole size."""
    out = Tensor(n, x.w, x.st)
    out.lay = moves.part_of(x)
    if t.grad and x.node is not None:
        t.record(out, (x,), _piece_bwd, None, x.n)
    return out


@moves.moving(backward=gradients.filled)
def _piece_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (t.alloc(node.extra, g.w, "gradient of a slice"),)


def split(t: Tape, x: Tensor, sizes: Sequence[Any], rows: bool = False) -> list[Tensor]:
    """torch.split, chunk or unbind: views; one backward node concatenates their gradients. ``rows``: the parts are
    viewed by heads afterwards, so that their gradients have to be rows again."""
    outs = [Tensor(n, x.w, x.st) for n in sizes]
    moves.in_parts(x, outs)
    if t.grad and x.node is not None:
        t.seq += 1
        node = GradFn(t.seq, _split_bwd, (x.node,), [x.idx], None, (x.n, x.w), t.where, len(outs))
        node.lays, node.rows = (x.lay,), rows
        for i, out in enumerate(outs):
            out.node, out.idx = node, i
    return outs


@moves.moving(backward=gradients.rejoined)
def _split_bwd(t: Tape, node: GradFn, g: Any) -> Grads:
    n, w = node.extra
    return (t.alloc(n, w, "gradient, concatenated"),)


def copy(t: Tape, x: Tensor, what: str = "contiguous copy") -> Tensor:
    """clone or contiguous of a permuted tensor: the gradient passes through."""
    return t.emit(what, x.n, x.w, (x,), _pass)


def dropout(t: Tape, x: Tensor) -> Tensor:
    """torch.nn.functional.dropout, native_dropout: keeps a byte mask."""
    mask = t.alloc(x.n, BOOL, "dropout mask")
    return t.emit("dropped", x.n, x.w, (x,), fresh_bwd, mask.st)


@moves.moving(moves.copied, gradients.seen_again)
def _pass(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (g,)


def by_heads(t: Tape, x: Tensor, fn: Any = None) -> Tensor:
    """A permuted view (heads before tokens): its gradient is copied to be seen as rows again (or what ``fn`` does)."""
    out = Tensor(x.n, x.w, x.st)
    out.lay = moves.SEEN_BY_HEADS
    if t.grad and x.node is not None:
        t.record(out, (x,), fn or _heads_bwd)
    return out


@moves.moving(backward=gradients.in_rows)
def _heads_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (t.alloc(g.n, g.w, "gradient"),)


@moves.moving(moves.masked, gradients.chosen)
def where_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """torch.where with a number: the gradient is masked."""
    return (t.alloc(g.n, g.w, "gradient, masked"),)


def repeat(t: Tape, x: Tensor, times: Any, what: str = "repeated heads") -> Tensor:
    """expand and reshape (repeat_kv): a copy; the gradient is summed."""
    if times == 1:
        return x
    return t.emit(what, x.n * times, x.w, (x,), _sum_bwd, None, x.n)


def expand(t: Tape, x: Tensor, times: Any) -> Tensor:
    """expand: a view; the gradient is summed."""
    out = Tensor(x.n * times, x.w, x.st)
    if t.grad and x.node is not None:
        t.record(out, (x,), _sum_bwd, None, x.n)
    return out


@moves.moving(moves.repeated, gradients.collected)
def _sum_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (t.alloc(node.extra, g.w, "gradient, summed"),)


def matmul(
    t: Tape, a: Tensor, b: Tensor, n: Any, k: Any, what: str = "product", turned: bool = False, scaled: bool = False,
) -> Tensor:  # fmt: skip
    """bmm of ``a`` and ``b``, ``n`` results of ``k`` multiply-adds each (None: the caller logs them): saves both.

    ``turned``: b is multiplied transposed; ``scaled``: baddbmm with a factor, by which each gradient is multiplied.
    """
    a, b = t.autocast(a), t.autocast(b)
    saved = (b.st if a.node is not None else None, a.st if b.node is not None else None)
    out = t.emit(what, n, a.w, (a, b), _matmul_bwd, saved, ((a.n, b.n), turned, scaled))
    if t.work is not None and k is not None:
        products.batched(t, out, a.n, b.n, k, what, wide=a.w == F32)
    return out


@moves.moving(moves.multiplied_out, gradients.factors)
def _matmul_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return tuple(
        None if p is None else t.alloc(n, g.w, "gradient of a product")
        for p, n in zip(node.ins, node.extra[0], strict=True)
    )


def softmax(t: Tape, x: Tensor, w: int | None = None) -> Tensor:
    """softmax(x, dtype): a bf16 input is converted first (one fused kernel exists for fp16 alone); saves its result."""
    before = x.w
    if w is not None and not (t.fp16 and before == HALF):
        x = to(t, x, w)
        before = w
    return t.emit("softmax", x.n, w or x.w, (x,), softmax_bwd, RESULT, before)


@moves.moving(backward=gradients.through_plain)
def softmax_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """softmax_backward_cuda_out: the gradient times the result is written out beside the result of the kernel."""
    out = t.alloc(g.n, node.extra, "gradient of the softmax")
    held = t.alloc(g.n, g.w, "gradient times the probabilities")
    del held
    return (out,)


def embedding(t: Tape, table: Tensor, n: Any, ids: Tensor | None = None) -> Tensor:
    """A look-up: the backward pass makes a dense gradient of the table."""
    return t.emit("embedding", n, table.w, (table,), _embedding_bwd, ids.st if ids is not None else None, table.n)


@moves.moving(moves.looked_up)
def _embedding_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (t.alloc(node.extra, g.w, "gradient of the table"),)


def layer_norm(t: Tape, x: Tensor, rows: Any, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """native_layer_norm: saves the input and a mean and a deviation a row; autocast runs it in fp32."""
    if t.amp and x.w == HALF:
        x = to(t, x, F32)
    mean_ = t.alloc(rows, F32, "norm statistics")
    rstd = t.alloc(rows, F32, "norm statistics")
    ins = tuple([i for i in (x, weight, bias) if i is not None])
    return t.emit("layer norm", x.n, x.w, ins, _layer_norm_bwd, (x.st, mean_.st, rstd.st), [(i.n, i.w) for i in ins])


@moves.moving(moves.normed, gradients.unnormed)
def _layer_norm_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return tuple(
        None if p is None else t.alloc(n, w, "gradient of the norm")
        for p, (n, w) in zip(node.ins, node.extra, strict=True)
    )
