"""The products of recurrent mixers on transformers' own PyTorch path, which is what FlopCounterMode sees.

Mamba multiplies its state with C token by token; Mamba 2 and the gated delta rule work in chunks, whose products
are the ones of the papers' block decomposition. Fused CUDA kernels do the same work unseen by that counter.
Sources: transformers 5.23, models/mamba/modeling_mamba.py (mamba_selective_scan), models/mamba2/modeling_mamba2.py
(mamba2_chunk_scan), models/qwen3_next/modeling_qwen3_next.py (torch_chunk_gated_delta_rule).
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import Linear, StateSpace
from estimator.inventory import CONV
from estimator.ops import ceil_div
from estimator.work import kernels
from estimator.work import product as p
from estimator.work.blocks import Walk
from estimator.work.product import MULTIPLY_ADD, Kernel, Moves, Product

STEP_OUTPUTS = 2  # a decode step convolves the kernel's kept columns and one more: kernel + 1 columns, 2 outputs


def mixer(tape: Walk, s: StateSpace, grad: bool) -> bool:
    """A recurrent mixer; returns whether its output requires a gradient."""
    start = len(tape.ops)
    out = _eager(tape, s, grad)
    if tape.rows.fused_scan:
        inside = (_at(s), *(e.name.removesuffix(".weight") for e in s.extras if e.role == CONV))
        made = [q for q in tape.ops[start:] if isinstance(q, Product) or not q.name.startswith(inside)]
        tokens = tape.rows.tokens
        tape.ops[start:] = [*made, kernels.scan(_at(s), tokens * s.conv_width, tokens * s.inner)]
    return out


def _eager(tape: Walk, s: StateSpace, grad: bool) -> bool:
    """The same on transformers' PyTorch path."""
    linear = {part.name.rpartition(".")[2]: part for part in s.linears}
    if s.kind == "selective":
        return _selective(tape, s, linear, grad)
    flags = [tape.linear(part, grad, p.PROJECTION) for name, part in linear.items() if name != "out_proj"]
    inner = convolution(tape, s, flags[0]) if s.kind != "lightning" else flags[0]
    hidden = any(flags) or inner or _trains_extras(tape, s)
    if s.kind == "chunked":
        _chunked(tape, s, hidden)
    elif s.kind == "gated_delta":
        _delta(tape, s, hidden, inner)
    for norm in s.norms:
        hidden = tape.norm(norm, hidden, stream=False)
    return tape.linear(linear["out_proj"], hidden, p.PROJECTION)


def _trains_extras(tape: Walk, s: StateSpace) -> bool:
    return any(tape.trains(e.name) for e in s.extras)


def convolution(tape: Walk, s: StateSpace, grad: bool) -> bool:
    """The depthwise causal convolution, padded by kernel - 1 on both sides.

    FlopCounterMode's convolution_backward formula ignores the groups, so the gradient of the weight counts the
    channels once too often; that is ``overcount``.
    """
    rows = tape.rows
    outputs = STEP_OUTPUTS if rows.decode else rows.s + s.conv_kernel - 1
    weights = [e for e in s.extras if e.role == CONV and e.name.endswith("weight")]
    dw = any(tape.trains(e.name) for e in weights)
    once = MULTIPLY_ADD * rows.b * outputs * s.conv_kernel * s.conv_width
    name = weights[0].name.removesuffix(".weight")
    tape.ops.append(
        Product(
            name, p.CONVOLUTION, outputs, s.conv_kernel, 1, rows.b * s.conv_width, operator="conv", left=grad, right=dw,
            overcount=once * (s.conv_width - 1) if dw else 0, weight=s.conv_kernel * s.conv_width,
        )
    )  # fmt: skip
    out = grad or dw or any(tape.trains(e.name) for e in s.extras if e.role == CONV)
    tape.ops.append(kernels.activation(f"{name}.act", rows.tokens * s.conv_width, "silu", out))
    return out


def _selective(tape: Walk, s: StateSpace, linear: dict[str, Linear], grad: bool) -> bool:
    """Mamba 1: in, convolution, x (time step, B, C), dt, the scan, out."""
    rows = tape.rows
    inner = convolution(tape, s, tape.linear(linear["in_proj"], grad, p.PROJECTION))
    xs = tape.linear(linear["x_proj"], inner, p.PROJECTION)
    for norm in s.norms:
        xs = tape.norm(norm, xs, stream=False)
    dt = linear["dt_proj"]
    dw = tape.trains(f"{dt.name}.weight")  # transformers multiplies with dt_proj's weight itself, past any adapter
    tape.ops.append(
        Product(dt.name, p.PROJECTION, rows.tokens, dt.d_in, dt.d_out, left=xs, right=dw, weight=dt.d_in * dt.d_out)
    )
    state = inner or xs or dw or _trains_extras(tape, s)
    tape.ops.append(Product(_at(s), p.SCAN, s.inner, s.state, 1, rows.tokens, operator="bmm", left=state, right=xs))
    n = rows.tokens * s.inner * s.state
    tape.ops.append(Kernel(_at(s), Moves(0, 12 * n, 0, 6 * rows.s), Moves(0, 20 * n, 0, 9 * rows.s), state))
    tape.ops.append(kernels.multiply(f"{_at(s)}.gate", rows.tokens * s.inner, state))
    return tape.linear(linear["out_proj"], state, p.PROJECTION)


def _at(s: StateSpace) -> str:
    return s.linears[0].name.rpartition(".")[0] + ".scan"


def _chunked(tape: Walk, s: StateSpace, grad: bool) -> None:
    """Mamba 2's block decomposition (arXiv:2405.21060, section 6): within chunks, chunk states, between chunks, out."""
    rows, h, d_h, n = tape.rows, s.sizes["heads"], s.sizes["head_dim"], s.state
    if rows.decode:
        tape.ops.append(Product(_at(s), p.SCAN, d_h, n, 1, rows.b * h, operator="bmm", left=grad, right=grad))
        return
    c = s.sizes["chunk"]
    chunks = ceil_div(rows.s, c)
    many = rows.b * h * chunks
    for name, m, k, out, count in (
        ("scores", c, n, c, many),
        ("values", c, c, d_h, many),
        ("chunk_states", n, c, d_h, many),
        ("between_chunks", chunks + 1, chunks + 1, d_h * n, rows.b * h),
        ("states_out", c, n, d_h, many),
    ):
        tape.ops.append(Product(f"{_at(s)}.{name}", p.SCAN, m, k, out, count, operator="bmm", left=grad, right=grad))
        tape.ops.append(kernels.copies(f"{_at(s)}.{name}", count * m * out, 2 * count * m * out, (2, 4), grad))


def _delta(tape: Walk, s: StateSpace, grad: bool, qkv: bool) -> None:
    """The gated delta rule in chunks: a triangular system within each, then one state carried from chunk to chunk.

    The triangular solves are no products, but their gradient with respect to the system is one. The first chunk's
    state is zero and needs no gradient; the last one's update is computed and not used. ``qkv``: whether q, k and v
    require gradients; beta and the decay, which scale them, may without.
    """
    rows, h, d_k, d_v = tape.rows, s.sizes["value_heads"], s.sizes["key_dim"], s.sizes["value_dim"]
    if rows.decode:  # the recurrent form is elementwise
        return
    c = s.sizes["chunk"]
    chunks = ceil_div(rows.s, c)
    heads = rows.b * h
    every, later = heads * chunks, heads * (chunks - 1)

    def add(
        name: str, m: Any, k: Any, n: Any, count: Any, left: bool = True, right: bool = True, forward: bool = True
    ) -> None:
        product = Product(
            f"{_at(s)}.{name}",
            p.SCAN,
            m,
            k,
            n,
            count,
            operator="bmm" if forward else "backward",
            left=left and grad,
            right=right and grad,
        )
        tape.ops.append(product)
        tape.ops.append(kernels.copies(f"{_at(s)}.{name}", count * m * n, 2 * count * m * n, (2, 4), grad))

    add("system", c, d_k, c, every, right=qkv)
    add("scores", c, d_k, c, every, left=qkv, right=qkv)
    add("solve_values", c, d_v, c, every, right=False, forward=False)
    add("solve_keys", c, d_k, c, every, right=False, forward=False)
    for name in ("state_read", "state_query"):
        add(f"{name}_first", c, d_k, d_v, heads, right=False)
        add(name, c, d_k, d_v, later)
    add("values", c, c, d_v, every)
    add("state_update", d_k, c, d_v, later)
    add("state_update_last", d_k, c, d_v, heads, left=False, right=False)
