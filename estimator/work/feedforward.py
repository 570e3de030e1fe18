"""The products and kernels of feed-forward blocks: an MLP, routed experts. Flags as in :mod:`estimator.work.blocks`."""

from __future__ import annotations

from estimator.families.base import EXPERT, MLP, ROUTER, Extra, Linear, MoE, Norm, SideChain
from estimator.ops import minimum
from estimator.work import kernels as k
from estimator.work import product as p
from estimator.work.blocks import Walk
from estimator.work.product import Product


def mlp(tape: Walk, block: MLP, grad: bool) -> bool:
    """A feed-forward block; returns whether its output requires a gradient."""
    *first, down = block.linears
    inner, at, n = False, down.name.rpartition(".")[0], tape.rows.tokens * block.width
    halves = block.fused and block.gated  # gate and up are views of one tensor
    for i, linear in enumerate(first):
        out = tape.linear(linear, grad, p.MLP)
        inner = inner or out
        if i == 0:
            tape.ops.append(k.activation(f"{at}.act", n, block.act, out, halves, block.gated))
    if block.gated:
        tape.ops.append(k.multiply(f"{at}.gate", n, inner, halves))
    if len(first) > 1:
        tape.ops.append(k.accumulate(f"{at}.inputs", tape.rows.tokens * first[0].d_in, len(first) - 1, grad))
    if block.norm is not None:
        inner = tape.norm(block.norm, inner, stream=False)
    return tape.linear(down, inner, p.MLP)


def moe(tape: Walk, block: MoE, grad: bool) -> bool:
    """Router, the k chosen experts of every token, the shared experts."""
    routed = grad
    for part in block.router:
        if isinstance(part, Linear):
            routed = tape.linear(part, grad, p.ROUTER) or routed
        elif isinstance(part, Extra) and part.role == ROUTER and len(part.shape) == 2:
            dw = tape.trains(part.name)
            E, d = part.shape
            tape.ops.append(Product(part.name, p.ROUTER, tape.rows.tokens, d, E, left=grad, right=dw, weight=E * d))
            routed = routed or dw
    rows = tape.rows.tokens * block.per_token
    at = block.experts[0].name.rpartition(".")[0]
    tape.ops.append(k.routing(f"{at}.routing", tape.rows.tokens * block.num, routed))
    inner = grad
    if block.latent:
        inner = tape.linear(block.latent[0], grad, p.MLP)
    tape.ops.append(k.permute(f"{at}.permute", rows * block.d, grad))
    for part in block.experts:
        if part.role != EXPERT or len(part.shape) != 3:
            continue
        first = inner
        inner = _expert(tape, block, part, inner)
        if first is grad and not part.name.endswith("down_proj"):
            n, halves = rows * block.width, block.gated
            tape.ops.append(k.activation(f"{at}.act", n, block.act, inner, halves, block.gated))
            if block.gated:
                tape.ops.append(k.multiply(f"{at}.gate", n, inner, halves))
    if block.latent:
        inner = tape.linear(block.latent[1], inner, p.MLP)
    out = inner or routed
    tape.ops.append(k.unpermute(f"{at}.unpermute", rows * block.d, tape.rows.tokens * block.d, out))
    if block.shared is not None:
        out = mlp(tape, block.shared, grad) or out
        if block.shared_gate is not None:
            tape.linear(block.shared_gate, grad, p.ROUTER)
            tape.ops.append(k.multiply(f"{at}.shared_gate", tape.rows.tokens * block.d, out))
        tape.ops.append(k.add(f"{at}.shared", tape.rows.tokens * block.d, out))
    return out


def chain(tape: Walk, block: SideChain, grad: bool) -> bool:
    """Matrices and norms beside the branches; returns whether what they add requires a gradient."""
    out, first = grad, True
    for part in block.parts():
        if isinstance(part, Norm):
            out = tape.norm(part, out, stream=False)
        elif isinstance(part, Linear):
            for _ in range(block.repeated if first else 1):
                made = tape.linear(part, out, p.MLP)
            out = made
            if first and block.act:
                tape.ops.append(k.activation(f"{part.name}.act", tape.rows.tokens * part.d_out, block.act, out))
            if first and block.scaled:
                tape.ops.append(k.multiply(f"{part.name}.scale", tape.rows.tokens * part.d_out, out))
            first = False
    for name, m, inner, n in block.products:
        tape.ops.append(Product(name, p.MLP, m, inner, n, tape.rows.tokens, operator="bmm", left=grad, right=out))
    return out


def _expert(tape: Walk, block: MoE, part: Extra, grad: bool) -> bool:
    """One stacked matrix of the routed experts: tokens * k rows meet [d_in, d_out] of their expert each."""
    E, a, b = part.shape
    if not block.transposed:
        a, b = b, a
    dw = tape.trains(part.name)
    m = tape.rows.tokens * block.per_token
    tape.ops.append(
        Product(part.name, p.EXPERTS, m, a, b, operator="experts", left=grad, right=dw, weight=minimum(m, E) * a * b)
    )
    return tape.adapters(part.name, grad, m) or grad or dw
