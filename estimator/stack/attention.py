"""Attention: projections, rotary embedding, the fused and the eager kernels, the cache."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Attention, Norm
from estimator.ops import maximum, round_up
from estimator.stack import gradients, moves, ops, products, ring
from estimator.stack.machine import Machine
from estimator.stack.norms import norm
from estimator.stack.tape import BOOL, F32, HALF, I64, GradFn, Tape, Tensor
from estimator.stack.unfused import as_numbers, math

FLASH_ROWS = 128  # flash_api.cpp: rows are rounded up to 128
FLASH_WIDTH = 32  # and the head width to 32
MAX_FLASH_WIDTH = 256


def flash(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, s_q: Any, s_k: Any) -> Tensor:
    """_scaled_dot_product_flash_attention: saves q, k, v, its output and a log-sum-exp a row."""
    t = m.t
    q, k, v = t.autocast(q), t.autocast(k), t.autocast(v)
    rows = m.b * a.heads * s_q
    if a.head_dim % 8:
        wide = round_up(a.head_dim, 8)
        q, k, v = (_padded(t, x, x.n // a.head_dim * wide) for x in (q, k, v))
    held = [] if m.context == 1 else [*ring.gathered(t, k.n, v.n, k.w, m.context), *ring.merged(t, q.n)]
    lse = t.alloc(rows, F32, "log-sum-exp")
    seed, offset = t.alloc(2, I64, "random state"), t.alloc(1, I64, "random state")
    saved = [q.st, k.st, v.st, lse.st, seed.st, offset.st]
    d = q.n // rows
    out = t.emit(
        "attention output", q.n, q.w, (q, k, v), _flash_bwd, saved,
        (q.n, k.n, v.n, rows, d, s_q, m.b * a.heads, m.context),
    )  # fmt: skip
    del held
    saved.append(out.st)
    products.fused(t, out, a, m.b * a.heads, s_q, s_k)
    if a.head_dim % 8:
        return ops.copy(t, ops.piece(t, out, rows * a.head_dim))
    return out


def _padded(t: Tape, x: Tensor, n: Any) -> Tensor:
    return t.emit("padded", n, x.w, (x,), _unpad, None, x.n)


def _unpad(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (Tensor(node.extra, g.w, g.st),)


@moves.moving(moves.attended, gradients.unattended)
def _flash_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    n_q, n_k, n_v, rows, d, s_q, heads, ways = node.extra
    around = [] if ways == 1 else [*ring.gathered(t, n_k, n_v, g.w, ways), *ring.gradients(t, n_q, n_k, n_v)]
    outs = [t.alloc(n, g.w, f"gradient of {x}") for n, x in ((n_q, "q"), (n_k, "k"), (n_v, "v"))]
    padded = heads * round_up(s_q, FLASH_ROWS)
    held = [
        t.alloc(padded, F32, "flash backward"),
        t.alloc(padded * round_up(d, FLASH_WIDTH), F32, "fp32 gradient of q"),
    ]
    if n_k != n_q:  # grouped queries: one gradient a query head, summed afterwards
        per_head = rows * d
        held += [t.alloc(per_head, g.w, "k gradient a query head"), t.alloc(per_head, g.w, "v gradient a query head")]
    del held, around
    return tuple(o if p is not None else None for o, p in zip(outs, node.ins, strict=True))


def efficient(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, s_q: Any, mask: Tensor | None, d_v: Any
) -> Tensor:
    """_scaled_dot_product_efficient_attention: as flash, with a bias of the queries' width where there is a mask."""
    t = m.t
    q, k, v = t.autocast(q), t.autocast(k), t.autocast(v)
    saved = [q.st, k.st, v.st]
    ins: tuple[Tensor, ...] = (q, k, v)
    if mask is not None:
        bias = as_numbers(m, mask, q.w) if mask.w == BOOL else t.autocast(mask)
        saved.append(bias.st)
        if bias.node is not None:
            ins = (q, k, v, bias)
    rows = m.b * a.heads * s_q
    if t.grad and any(i.node is not None for i in ins):
        saved.append(t.alloc(m.b * a.heads * round_up(s_q, 32), F32, "log-sum-exp").st)
    out = t.emit("attention output", rows * d_v, q.w, ins, _efficient_bwd, saved, (tuple(i.n for i in ins), rows))
    saved.append(out.st)
    products.fused(t, out, a, m.b * a.heads, s_q, k.n // (m.b * a.heads * a.head_dim), d_v)
    return out


@moves.moving(moves.attended_rows, gradients.unattended_rows)
def _efficient_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    sizes, rows = node.extra
    outs = [t.alloc(n, g.w, "gradient of attention") for n in sizes]
    held = t.alloc(rows, F32, "row sums")
    del held
    return tuple(o if p is not None else None for o, p in zip(outs, node.ins, strict=True))


def eager(m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, s_q: Any, s_k: Any, mask: Tensor | None,
          scores_w: int = F32, further: Tensor | None = None) -> Tensor:  # fmt: skip
    """eager_attention_forward: scores, softmax in fp32 and probabilities are all kept for the backward pass."""
    t = m.t
    groups = a.heads // a.kv_heads
    k, v = repeat_kv(t, k, a), repeat_kv(t, v, a)
    n = m.b * a.heads * s_q * s_k
    split = m.b > 1
    view = split and m.cache is None and (groups == 1 or a.kv_heads == 1)  # keys that nothing wrote out already
    weights = ops.scale(t, bmm(t, q, k, n, a.head_dim, (split, view), "attention scores", True), "scaled scores")
    if a.softcap:
        weights = ops.scale(t, weights, "scores")
        weights = ops.tanh(t, weights)
        weights = ops.scale(t, weights, "capped scores")
    if further is not None:
        weights = ops.add(t, weights, further, "scores with those of positions")
    if mask is not None and mask.node is not None:  # a learned bias wants its gradient (T5)
        weights = ops.add(t, weights, mask, "masked scores")
    elif mask is not None:
        weights = ops.add_spread(t, weights, "masked scores", maximum(weights.w, mask.w))
        if a.floored:
            weights = floored(t, weights)
    w = q.w
    if scores_w == F32:
        weights = ops.to(t, ops.softmax(t, weights, F32), w)
    else:
        weights = ops.to(t, ops.softmax(t, weights, F32 if t.amp else weights.w), v.w)
    if m.drops.attention:
        weights = ops.dropout(t, weights)
    m.hold(weights)
    d_v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    out = bmm(t, weights, v, m.b * a.heads * s_q * d_v, s_k, (False, view), "attention output")
    return ops.copy(t, out, "attention output, transposed")


def floored(t: Tape, x: Tensor) -> Tensor:
    """torch.max with the smallest number, which saves its input."""
    return t.emit("scores, floored", x.n, x.w, (x,), _floored_bwd, x.st, (1, "input"))


_floored_bwd = moves.likewise(ops.unary_bwd, moves.masked, gradients.least)


def repeat_kv(t: Tape, x: Tensor, a: Attention) -> Tensor:
    """transformers' repeat_kv: a copy, but a view where there is one head to repeat."""
    return (ops.expand if a.kv_heads == 1 and a.heads != 1 else ops.repeat)(t, x, a.heads // a.kv_heads)


def bmm(t: Tape, a: Tensor, b: Tensor, n: Any, k: Any, copies: tuple[bool, bool], what: str,
        turned: bool = False) -> Tensor:  # fmt: skip
    """torch.matmul of 4-D tensors: operands that are permuted are copied to be viewed as a batch of matrices."""
    a, b = t.autocast(a), t.autocast(b)
    if copies[0]:
        a = ops.copy(t, a)
    if copies[1]:
        b = ops.copy(t, b)
    return ops.matmul(t, a, b, n, k, what, turned)


def rotate(t: Tape, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x * cos + rotate_half(x) * sin."""
    return ops.add(t, ops.mul(t, x, cos), ops.mul(t, rotate_half(t, x), sin), "rotated")


def rotate_wide(t: Tape, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x.float() * cos + rotate_half(x.float()) * sin, in fp32."""
    first = ops.mul(t, ops.to(t, x, F32), cos)
    return ops.add(t, first, ops.mul(t, rotate_half(t, ops.to(t, x, F32)), sin), "rotated")


def rotate_half(t: Tape, x: Tensor) -> Tensor:
    """cat((-x2, x1))."""
    x1 = ops.piece(t, x, x.n // 2)
    x2 = ops.piece(t, x, x.n // 2)
    return ops.cat(t, (ops.neg(t, x2), x1), "rotated halves")


def rotate_part(t: Tape, x: Tensor, cos: Tensor, sin: Tensor, part: Any, whole: Any) -> Tensor:
    """The first ``part`` of ``whole`` dimensions rotated, the rest passed through, both concatenated again."""
    rot = x if part == whole else ops.piece(t, x, x.n // whole * part)  # a slice of all is a view without a node
    rest = ops.piece(t, x, x.n // whole * (whole - part))
    return ops.cat(t, (rotate(t, rot, cos, sin), rest), "rotated and passed")


def head_norm(m: Machine, x: Tensor, n: Norm) -> Tensor:
    """A norm over each head, or over the whole projection."""
    return norm(m, x, n, x.n // n.width, heads=True)


def prefixed(m: Machine, a: Attention, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Trained keys and values before the text's (prefix tuning), one set for all sequences."""
    if not m.prefix:
        return k, v
    outs = []
    for x, what in ((k, "keys"), (v, "values")):
        each = x.n // m.rows
        n = (m.prefix - m.prefix_frozen) * each
        own: Tensor = m.param(f"{a.out.name}.{{i}}.prefix_{what}", n, F32, m.training)
        if m.prefix_frozen:
            frozen = m.param(f"{a.out.name}.{{i}}.frozen_{what}", m.prefix_frozen * each, F32, False)
            own = ops.cat(m.t, (frozen, own), f"{what} of the prefix")
        wide = ops.to(m.t, ops.expand(m.t, own, m.b), x.w)
        outs.append(ops.cat(m.t, (wide, x), f"{what} with prefix"))
    return outs[0], outs[1]


CROSS = "cross"  # in the key of a cache of the encoder's tokens


def cached(m: Machine, a: Attention, k: Tensor, v: Tensor, key: Any = None) -> tuple[Tensor, Tensor]:
    """DynamicCache.update: what is held is concatenated with what is new. A sliding layer keeps a view of that.

    transformers cache_utils.py: DynamicLayer, DynamicSlidingWindowLayer.
    """
    if not a.cross:
        k, v = prefixed(m, a, k, v)
    if m.cache is None:
        return k, v
    t = m.t
    key = m.layer_key if key is None else key
    moves.fused(t, "cache", 2 * (k.n + v.n) * k.w)
    where, t.where = t.where, "KV cache"
    held = m.cache.get(key)
    if held is None:
        if a.cache_window is not None and m.past == 0:
            moves.log(t, "window, to the device")  # DynamicSlidingWindowLayer.lazy_initialization
        m.cache[key] = held = [None, None, t.times, 0, None]
    for i, new in enumerate((k, v)):
        n = new.n if a.cross else new.n // (m.s + m.prefix) * (m.held_tokens(a) + m.prefix)
        held[i] = t.emit("keys" if i == 0 else "values", n, new.w, (new,), _one_part)
    held[3], held[4] = m.held_tokens(a), a.cache_window
    t.where = where
    return held[0], held[1]


def grow_cache(m: Machine, tokens: Any) -> None:
    """What the steps in between do: every cache that no window bounds holds ``tokens`` tokens, but an encoder's."""
    t = m.t
    where, t.where = t.where, "KV cache"
    for key, entry in (m.cache or {}).items():
        if (entry[4] is not None and tokens >= entry[4]) or (isinstance(key, tuple) and key[-1] == CROSS):
            continue
        with t.repeated(entry[2]):
            for i, what in ((0, "keys"), (1, "values")):
                entry[i] = t.alloc(entry[i].n // entry[3] * tokens, entry[i].w, what)
        entry[3] = tokens
    t.where = where


@moves.moving(moves.stored, gradients.of_cached)
def _one_part(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (Tensor(g.n, g.w, g.st),)


def drop_cache(m: Machine) -> None:
    """Let go of the cache, of each of the layers that a segment stands for."""
    held, m.cache = m.cache or {}, None
    while held:
        _, entry = held.popitem()
        with m.t.repeated(entry[2]):
            entry.clear()


def attend(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, a: Attention, mask: Tensor | None, head_major: bool = False,
    further: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """transformers' attention interface: SDPA's kernels, or the eager function, with ``further`` scores (DeBERTa).

    ``head_major``: the queries lie in memory head by head (they come out of a concatenation); so does then the
    output of the flash kernel and of cuDNN's, and it is copied when the heads are merged. cuDNN's is the one that takes
    a mask where PyTorch prefers it, but none that is learned, of which it makes no gradient. So does the ring's, which
    puts the later half of its tokens behind the earlier.
    """
    head_major = head_major or m.context != 1
    s_q, s_k = m.s, k.n // (m.b * a.kv_heads * a.head_dim)
    if not m.fused:
        return eager(m, q, k, v, a, s_q, s_k, mask, HALF if a.softmax == "scores" else F32, further)
    d_v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    half = q.w == HALF or m.t.amp
    groups = a.heads // a.kv_heads
    if m.release.repeats_heads and groups != 1:
        k, v, groups = repeat_kv(m.t, k, a), repeat_kv(m.t, v, a), 1
        copied = True
    else:
        copied = False
    if (m.release.copies_heads or a.copied) and m.s != 1:
        head_major = True
        q = ops.copy(m.t, q)
        if not copied:
            k, v = ops.copy(m.t, k), ops.copy(m.t, v)
    if mask is None and groups != 1 and not half and m.card.flash:
        return math(m, q, k, v, a, s_q, s_k, None, s_q != 1 and a.causal, groups)
    if mask is None and half and m.card.flash and a.head_dim <= MAX_FLASH_WIDTH and d_v == a.head_dim:
        out = flash(m, q, k, v, a, s_q, s_k)
    else:
        if not copied:
            k, v = repeat_kv(m.t, k, a), repeat_kv(m.t, v, a)
        out = efficient(m, q, k, v, a, s_q, mask, d_v)
        head_major = head_major and half and m.card.cudnn and (mask is None or mask.node is None)
    if m.release.joins:
        return ops.copy(m.t, out, "attention output, put together")
    return ops.copy(m.t, out, "attention output, transposed") if head_major and m.s != 1 else out
