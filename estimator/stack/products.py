"""The log of a step's matrix products, kept for those who ask: FLOPs are folds over it.

The few operations that multiply (:func:`estimator.stack.nn.product`, ``ops.matmul``, fused attention, grouped experts,
convolutions, scans) log themselves where ``Tape.work`` is a list. What a backward pass adds is learnt when autograd
runs it, and what checkpointing adds when it runs a layer again; no second description says so.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Attention, Layer, MoE, StateSpace
from estimator.ops import root
from estimator.records import dataclass
from estimator.stack.tape import GradFn, Tape, Tensor
from estimator.work.product import (
    ADAPTER,
    ATTENTION,
    CONVOLUTION,
    EMBEDDING,
    EXPERTS,
    HEAD,
    MLP,
    MULTIPLY_ADD,
    PROJECTION,
    ROUTER,
    SCAN,
)

# the part of a model that a linear layer belongs to, by where it stands
PARTS_AT = {
    "attention": PROJECTION, "cross-attention": PROJECTION, "mixer": PROJECTION, "MLP": MLP, "experts": MLP,
    "head": HEAD, "loss": HEAD,
}  # fmt: skip

TERMS = ("c2p", "p2c")  # DeBERTa's further scores
Grads = tuple[int | bool, int | bool]  # which input of the node an operand is, or whether it has a gradient at all


@dataclass(slots=True)
class Entry:
    """``count`` products [m, k] x [k, n] in each of ``times`` layers; the fields are those of ``Product``.

    left, right and recomputed are set while the step runs; ``excess``: FLOPs that FlopCounterMode counts beyond the
    real ones where the right operand has a gradient.
    """

    name: str
    part: str
    m: Any
    k: Any
    n: Any
    count: Any
    times: Any
    layer: str
    operator: str = "linear"
    weight: Any = 0
    again: int = 0
    pairs: Any = None
    pairs_of: str = "n"
    wide: bool = False
    excess: Any = 0
    left: bool = False
    right: bool = False
    recomputed: bool = False


def log(t: Tape, out: Tensor, name: str, part: str, m: Any, k: Any, n: Any, count: Any = 1, *,
        grads: Grads = (0, 1), **more: Any) -> None:  # fmt: skip
    """Log one product that made ``out``; in a recomputation, that the one of the first run is run again."""
    if t.work is None:
        return
    frame = t.frame
    if t.again is not None:
        assert frame is not None
        frame.made[frame.met].recomputed = True
        frame.met += 1
        return
    made = Entry(name, part, m, k, n, count, t.times, t.layer, **more)
    t.work.append(made)
    if frame is not None:
        frame.made.append(made)
    if out.node is not None:
        out.node.work = (*out.node.work, (made, grads))


def differentiate(node: GradFn) -> None:
    """The backward pass of ``node`` runs: its products have the gradients that are asked for."""
    for made, (left, right) in node.work:
        made.left = left if isinstance(left, bool) else node.ins[left] is not None
        made.right = right if isinstance(right, bool) else node.ins[right] is not None


def part_at(t: Tape) -> str:
    """What a linear layer at this point of the step belongs to."""
    return PARTS_AT.get(t.where, EMBEDDING)


def linear(
    t: Tape, out: Tensor, x_n: Any, w_n: Any, name: str, part: str = "", rows: Any = None, grads: Grads = (0, 1)
) -> None:
    """A linear layer: the sizes of input, weight and output say what is contracted."""
    if t.work is None:
        return
    m = root(x_n * out.n // w_n) if rows is None else rows
    n = out.n // m
    log(t, out, name, part or part_at(t), m, w_n // n, n, weight=w_n, grads=grads)


def batched(
    t: Tape, out: Tensor, a_n: Any, b_n: Any, k: Any, what: str, results: Any = None, wide: bool = False
) -> None:
    """A batch of products that contracts ``k``: of an attention, its scores or its values; else of a scan. ``wide``:
    the operands are in fp32."""
    if t.work is None:
        return
    left, right = a_n // k, b_n // k
    count = left * right // (out.n if results is None else results)
    m, n = left // count, right // count
    if isinstance(t.of, Attention) and what in TERMS:
        log(t, out, f"{t.of.out.name.rpartition('.')[0]}.{what}", ATTENTION, m, k, n, count, operator="bmm")
        return
    if isinstance(t.of, Attention):
        scores = what == "attention scores"
        attention(t, out, t.of, m, n if scores else k, scores, k if scores else n, count, "bmm", (0, 1), wide=wide)
        return
    name = f"{scan_name(t)}.{what.replace(' ', '_')}"
    log(t, out, name, SCAN, m, k, n, count, operator="bmm")


def scan_name(t: Tape) -> str:
    """The name of what a recurrent mixer does between its matrices."""
    linears = getattr(t.of, "linears", None)
    return f"{linears[0].name.rpartition('.')[0]}.scan" if linears else "scan"


def attention(
    t: Tape, out: Tensor, a: Attention, s_q: Any, s_k: Any, scores: bool, width: Any, count: Any, operator: str,
    grads: Grads, again: int = 0, wide: bool = False,
) -> None:  # fmt: skip
    """The scores [s_q, width] x [width, s_k] of one attention, or its values [s_q, s_k] x [s_k, width]."""
    at = a.out.name.rpartition(".")[0]
    k, n = (width, s_k) if scores else (s_k, width)
    log(
        t, out, f"{at}.{'scores' if scores else 'values'}", ATTENTION, s_q, k, n, count, grads=grads,
        operator=operator, again=again, pairs=visible(a, s_q, s_k), pairs_of="n" if scores else "k", wide=wide,
    )  # fmt: skip


def fused(
    t: Tape, out: Tensor, a: Attention, heads: Any, s_q: Any, s_k: Any, d_v: Any = None, wide: bool = False
) -> None:
    """A fused attention kernel: its backward pass computes the scores again; ``wide``: PyTorch's math path in its
    place, in fp32."""
    if t.work is None:
        return
    own = (a.head_dim if a.v_head_dim is None else a.v_head_dim) if d_v is None else d_v
    attention(t, out, a, s_q, s_k, True, a.head_dim, heads, "sdpa", (True, True), 1, wide)
    attention(t, out, a, s_q, s_k, False, own, heads, "sdpa", (True, True), 0, wide)


def visible(a: Attention, s: Any, s_k: Any) -> Any:
    """Query-key pairs that the mask leaves: the lower triangle, the band of a window; None where all are.

    Keys beyond the queries' own stand before them: a prefix, or what is cached.
    """
    if not a.causal or a.cross or s == 1:
        return None
    beside = (s_k - s) * s
    if a.chunk is not None and a.chunk < s:
        whole, rest = s // a.chunk, s % a.chunk
        return whole * (a.chunk * (a.chunk + 1) // 2) + rest * (rest + 1) // 2 + beside
    w = a.window
    if w is not None and w < s:
        return w * s - w * (w - 1) // 2 + beside
    return s * (s + 1) // 2 + beside


def adapter(
    t: Tape, out: Tensor, name: str, rows: Any, work: tuple[tuple[Any, Any, Any], ...], left: int | bool = 0
) -> None:
    """The products that an adapter states: [rows, k] x [k, n] each, the first with the module's own input (``left``:
    the node's first input, or whether it has a gradient)."""
    for i, (own, k, n) in enumerate(work):
        log(t, out, f"{name}.adapter_{i}", ADAPTER, rows if own is None else own, k, n, weight=k * n,
            grads=(left if own is None and i == 0 else True, True))  # fmt: skip


def label(layer: Layer) -> str:
    """What a kind of layer is, for tables."""
    mixer, mlp = layer.mixer, layer.mlp
    if isinstance(mixer, Attention):
        kind = "sliding " if mixer.window is not None else "chunked " if mixer.chunk is not None else ""
        name = f"{kind}attention"
    else:
        name = mixer.kind.replace("_", " ") if isinstance(mixer, StateSpace) else "no mixer"
    side = "encoder " if layer.side == "encoder" else ""
    return f"{side}{name}" + ("" if mlp is None else " + experts" if isinstance(mlp, MoE) else " + MLP")


__all__ = [
    "ADAPTER", "ATTENTION", "CONVOLUTION", "EXPERTS", "HEAD", "MLP", "MULTIPLY_ADD", "ROUTER", "SCAN",
    "Entry", "adapter", "attention", "batched", "differentiate", "fused", "label", "linear", "log", "part_at",
    "scan_name", "visible",
]  # fmt: skip
