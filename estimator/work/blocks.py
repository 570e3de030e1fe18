"""The products of a layer's blocks in the order in which they run, with what each keeps for the backward pass.

A block is walked with the flags "its input requires a gradient", exactly as autograd sees it: a product's backward
pass holds the gradient of its input where the input requires one, and of its weight where the weight is trained.
Kernels stand for all other operations (a norm, an activation, a softmax); what the last of them keeps decides how far
non-reentrant checkpointing recomputes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from estimator.families.base import Attention, Indexer, Linear, Norm
from estimator.families.towers import Conv
from estimator.ops import minimum
from estimator.stack.products import visible
from estimator.work import kernels as k
from estimator.work import product as p
from estimator.work.product import Kernel, Product
from estimator.work.trainable import Trainable


@dataclass(frozen=True, slots=True)
class Rows:
    """How much passes through: b sequences, s query tokens each, s_k key tokens (None: as many), cached before.

    encoder_fresh  False where the cross-attention's keys and values are in the cache (a decode step)
    fused          True for the fused attention kernel, whose backward pass recomputes the scores
    prefix         virtual key tokens that a prefix adapter puts before every layer's keys
    caches         True where keys and values are written to a cache
    fused_scan     True where recurrent layers run their fused kernels, not the PyTorch path
    """

    b: Any
    s: Any
    cached: Any = 0
    encoder: Any = None
    decode: bool = False
    fused: bool = False
    prefix: Any = 0
    caches: bool = False
    fused_scan: bool = False

    @property
    def tokens(self) -> Any:
        return self.b * self.s


@dataclass(slots=True)
class Walk:
    """The operations of one block in order, under the flags of one run through it."""

    rows: Rows
    train: Trainable
    active: bool = True
    ops: list[Product | Kernel] = field(default_factory=list)

    def trains(self, name: str) -> bool:
        """Whether the gradient of this layer's weight ``name`` is computed."""
        return self.active and self.train.differentiates(name)

    def touches(self, module: str) -> bool:
        """Whether an adapter makes the output of ``module`` require a gradient."""
        return self.active and module in self.train.touched

    def norm(self, norm: Norm, grad: bool, n: Any = None, stream: bool = True) -> bool:
        """A normalisation of ``n`` elements (its width for every token); returns whether the output has a gradient.

        stream: of the residual stream, not of something inside a block.
        """
        trained = norm.affine and (
            self.trains(f"{norm.name}.weight") or (norm.bias and self.trains(f"{norm.name}.bias"))
        )
        n = self.rows.tokens * norm.width if n is None else n
        trained = trained or self.touches(norm.name)
        self.ops.append(k.norm(norm.name, n, norm.kind, grad or trained, trained, stream))
        return grad or trained

    def dropout(self, probability: float, grad: bool, n: Any) -> None:
        """Residual dropout: keeps its mask."""
        if probability > 0:
            self.ops.append(k.dropout("dropout", n, grad))

    def linear(self, linear: Linear, grad: bool, part: str, m: Any = None, times: Any = 1) -> bool:
        """A linear layer and its adapters; returns whether the output requires a gradient."""
        m = self.rows.tokens if m is None else m
        dw = self.trains(f"{linear.name}.weight")
        self.ops.append(
            Product(
                linear.name, part, m, linear.d_in, linear.d_out, left=grad, right=dw, weight=linear.d_in * linear.d_out
            )
        )
        db = linear.bias and self.trains(f"{linear.name}.bias")
        if linear.bias:
            self.ops.append(k.bias(f"{linear.name}.bias", m * linear.d_out, db))
        return self.adapters(linear.name, grad, m, linear) or grad or dw or db or self.touches(linear.name)

    def convolution(self, conv: Conv, grad: bool, part: str) -> bool:
        """A convolution as the product that it is; returns whether the output requires a gradient."""
        dw, m = self.trains(f"{conv.name}.weight"), self.rows.tokens * conv.rows
        self.ops.append(
            Product(
                conv.name, part, m, conv.reads, conv.d_out, operator="convolution", left=grad, right=dw,
                weight=conv.reads * conv.d_out,
            )
        )  # fmt: skip
        return grad or dw

    def adapters(self, name: str, grad: bool, m: Any, linear: Linear | None = None) -> bool:
        """The adapters of one module, over ``m`` rows; returns whether their output requires a gradient."""
        out = False
        for chain in self.train.adapters(name) if self.active else ():
            inner = grad
            for i, f in enumerate(chain):
                self.ops.append(
                    Product(
                        f"{name}.adapter_{i}", p.ADAPTER, m if f.rows is None else f.rows, f.d_in, f.d_out, f.count,
                        left=(inner and f.rows is None) or f.left, right=f.right,
                        weight=f.d_in * f.d_out,
                    )
                )  # fmt: skip
                inner = inner or f.right
            out = out or inner
            if linear is not None:
                self.ops.append(k.adapter(f"{name}.adapter", m * linear.d_in, m * linear.d_out, inner))
        return out


def keys(attention: Attention, rows: Rows) -> Any:
    """Key tokens that a query meets: all, as windows are masks; in a decode step what the cache holds and one."""
    if attention.cross:
        return rows.encoder
    if not rows.decode:
        return rows.s + rows.prefix
    window = attention.cache_window
    held = rows.cached if window is None else minimum(rows.cached, window - 1)
    return held + 1 + rows.prefix


def attention(tape: Walk, a: Attention, grad: bool, encoder_grad: bool = False) -> bool:
    """Projections, scores, values and the output projection; returns whether the output requires a gradient."""
    gq, gk, gv = _projected(tape, a, grad, encoder_grad)
    rows, at = tape.rows, a.out.name.rpartition(".")[0]
    n_q, n_k = rows.tokens * a.heads * a.head_dim, rows.tokens * a.kv_heads * a.head_dim
    for norm in a.norms if a.mla is None else ():
        low = norm.name.rpartition(".")[2].lower()
        if low.startswith("k"):
            gk = tape.norm(norm, gk, n_k, False)
        elif low.startswith("q"):
            gq = tape.norm(norm, gq, n_q, False)
    s_k, d_v = keys(a, rows), a.head_dim if a.v_head_dim is None else a.v_head_dim
    if rows.prefix and tape.train.prefix:
        gk = gv = True
    _rearrange(tape, a, at, n_q, n_k, s_k, (gq, gk, gv))
    if a.mla is None and not a.cross and len(a.projections) > 1:  # one input, several projections
        inputs = rows.tokens * a.projections[0].d_in
        tape.ops.append(k.accumulate(f"{at}.inputs", inputs, len(a.projections) - 1, grad))
    pairs, heads = visible(a, rows.s, s_k), rows.b * a.heads
    _disentangled(tape, a, gq, gk)
    scores = Product(
        f"{at}.scores", p.ATTENTION, rows.s, a.head_dim, s_k, heads, operator="bmm", left=gq, right=gk, pairs=pairs
    )
    if a.indexer is not None:
        _indexed(tape, a.indexer, grad, s_k)
    weighted = gq or gk
    values = Product(
        f"{at}.values",
        p.ATTENTION,
        rows.s,
        s_k,
        d_v,
        heads,
        operator="bmm",
        left=weighted,
        right=gv,
        pairs=pairs,
        pairs_of="k",
    )
    out = weighted or gv
    if rows.fused:
        scores = replace(scores, operator="sdpa", left=out, right=out, again=int(out))
        values = replace(values, operator="sdpa", left=out, right=out)
        tape.ops += [scores, values, k.kept(f"{at}.log_sum_exp", out)]
    else:
        tape.ops += [scores, k.softmax(f"{at}.softmax", heads * rows.s * s_k, bool(a.softcap), weighted), values]
    if a.gate:
        tape.ops.append(k.activation(f"{at}.gate", n_q, "sigmoid", out, gated=True))
        tape.ops.append(k.multiply(f"{at}.gate", n_q, out))
    if a.out_gate is not None:
        out = tape.linear(a.out_gate, grad, p.PROJECTION) or out
        tape.ops.append(k.activation(f"{at}.gate", rows.tokens * a.out_gate.d_out, "sigmoid", out, gated=True))
        tape.ops.append(k.multiply(f"{at}.gate", rows.tokens * a.heads * d_v, out))
    if a.out_norm is not None:
        out = tape.norm(a.out_norm, out, stream=False)
    return tape.linear(a.out, out, p.PROJECTION) or tape.touches(at)


def _disentangled(tape: Walk, a: Attention, gq: bool, gk: bool) -> None:
    """DeBERTa: the table of relative positions projected once, then queries and keys against it."""
    if a.disentangled is None:
        return
    further, at = a.disentangled, a.out.name.rpartition(".")[0]
    own = {"c2p": a.projections[1], "p2c": a.projections[0]}  # keys' matrix for the queries, and the other way round
    for i, term in enumerate(further.terms):
        linear = further.linears[i] if further.linears else own[term]
        made = tape.linear(linear, tape.trains("rel_embeddings"), p.PROJECTION, further.rows)
        content = gq if term == "c2p" else gk
        tape.ops.append(
            Product(
                f"{at}.{term}", p.ATTENTION, tape.rows.s, a.head_dim, further.rows, tape.rows.b * a.heads,
                operator="bmm", left=content, right=made,
            )
        )  # fmt: skip


def _indexed(tape: Walk, index: Indexer, grad: bool, s_k: Any) -> None:
    """The scores of an indexer, which choose tokens: no gradient comes back through the choice."""
    rows, at = tape.rows, index.queries.name.rpartition(".")[0]
    tape.linear(index.queries, False, p.PROJECTION)
    tape.linear(index.keys, False, p.PROJECTION)
    tape.norm(index.norm, False, stream=False)
    if index.query_norm is not None:
        tape.norm(index.query_norm, False, stream=False)
    if index.weigh is not None:
        tape.linear(index.weigh, False, p.PROJECTION)
    for name, m, k_, n, count in (
        ("scores", rows.s, index.head_dim, s_k, rows.b * index.heads),
        ("weighted", 1, index.heads, s_k, rows.tokens),
    ):
        if name == "scores" or index.weigh is not None:
            tape.ops.append(
                Product(f"{at}.{name}", p.ATTENTION, m, k_, n, count, operator="bmm", left=False, right=False)
            )


def _rearrange(tape: Walk, a: Attention, at: str, n_q: Any, n_k: Any, s_k: Any, grads: tuple[bool, bool, bool]) -> None:
    """Kernels between the projections and the scores: rotary embedding, the cache's copies, heads repeated."""
    rows, grad = tape.rows, any(grads)
    if a.position == "rope" and not a.cross:
        n = n_q + n_k
        part = rows.tokens * (a.heads + (1 if a.mla else a.kv_heads)) * a.rope_dim if partial(a) else n
        tape.ops.append(k.rotary(f"{at}.rotary", n, part, a.rope_style, grads[0] or grads[1]))
    fused = len(a.projections) == 1 and a.mla is None and not a.reuses
    if fused:  # one projection: the gradients are concatenated again
        tape.ops.append(k.copies(f"{at}.split", 0, n_q + 2 * n_k, (0, 1), grad))
    if a.mla is not None:  # keys and values put together from their parts
        made = rows.b * s_k * a.heads * (a.head_dim + (a.head_dim if a.v_head_dim is None else a.v_head_dim))
        tape.ops.append(k.copies(f"{at}.heads", made, made, (3, 3), grad))
    if rows.caches and not a.cross and not a.reuses:
        joined = n_k if a.mla is None and partial(a) else 0  # keys whose parts were concatenated are contiguous
        tape.ops.append(k.cache(f"{at}.cache", rows.tokens * cached_width(a) - joined, joined))
    if a.kv_heads != a.heads and (
        not rows.fused or masked(a, rows)
    ):  # only an unmasked fused kernel takes grouped heads
        wide, narrow = (2 * rows.b * s_k * heads * a.head_dim for heads in (a.heads, a.kv_heads))
        tape.ops.append(k.repeat(f"{at}.repeat", wide, narrow, grads[1] or grads[2]))


def partial(a: Attention) -> bool:
    """Whether the rotary embedding turns only a part of each head."""
    return a.position == "rope" and a.rope_dim is not None and bool(a.rope_dim != a.head_dim)


def cached_width(a: Attention) -> Any:
    """Numbers of a token that one layer caches: keys and values, or the latent and its rotary part."""
    if a.mla is not None:
        return a.mla["kv_rank"] + a.mla["rope"]
    return a.kv_heads * (a.head_dim + (a.head_dim if a.v_head_dim is None else a.v_head_dim))


def masked(a: Attention, rows: Rows) -> bool:
    """Whether the fused kernel is given a mask: a window or chunk shorter than the sequence."""
    bound = a.window if a.window is not None else a.chunk
    return bound is not None and not rows.decode and bool(bound < rows.s)


def _projected(tape: Walk, a: Attention, grad: bool, encoder_grad: bool) -> tuple[bool, bool, bool]:
    """Run the projections; returns whether q, k and v require gradients."""
    rows = tape.rows
    if a.mla is not None:
        return _latent(tape, a, grad)
    side, m = (encoder_grad, rows.b * rows.encoder) if a.cross else (grad, None)
    flags = []
    for i, linear in enumerate(a.projections):
        own = i == 0  # the first projection is of the queries; later ones of keys and values
        if not own and a.cross and rows.decode:
            flags.append(False)
            continue
        flags.append(tape.linear(linear, grad if own else side, p.PROJECTION, None if own else m))
    if len(flags) == 1:
        return flags[0], flags[0], flags[0]
    return flags[0], flags[1], flags[-1]


def _latent(tape: Walk, a: Attention, grad: bool) -> tuple[bool, bool, bool]:
    """MLA: queries through a rank where there is one; the latent of every cached token is expanded in a decode step."""
    *queries, kv_a, kv_b = a.projections
    norms = {n.name.rpartition(".")[2][0]: n for n in a.norms}
    q = grad
    for i, linear in enumerate(queries):
        q = tape.linear(linear, q, p.PROJECTION)
        if i == 0 and len(queries) > 1 and "q" in norms:
            q = tape.norm(norms["q"], q, stream=False)
    latent = tape.linear(kv_a, grad, p.PROJECTION)
    inner = tape.norm(norms["k"], latent, stream=False) if "k" in norms else latent
    kv = tape.linear(kv_b, inner, p.PROJECTION, tape.rows.b * keys(a, tape.rows))
    return q, kv or latent, kv
