"""HRA: a chain of r Householder reflections of the input.

Sources: Yuan et al. 2024, arXiv 2405.17484; peft 0.21.2, tuners/hra/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import F32, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """r vectors of d_in numbers."""
    r = b.rank = b.args.count("r")
    for m in b.match():
        yield PeftTensor(m.name, "hra_u", (m.d_in, r), m.times)


def work(m: Module, a: Args) -> Work:
    """peft reflects the weight, not the input: r rank-one updates of a d_in x d_in matrix, then one product with W."""
    return Work(0, 4 * a["r"] * m.d_in * m.d_in + 2 * m.d_in * m.d_in * m.d_out, 0)


def forward(s: AdaptedLayer) -> Tensor:
    """HRALinear.forward: the weight times a chain of reflections takes the weight's place."""
    t, n = s.t, s.d_in * s.d_in
    eye = t.alloc(n, F32, "identity matrix")
    chain = _orthogonal(s) if s.flag("apply_GS") else _reflections(s)
    new = algebra.mm(t, ops.to(t, eye, chain.w), chain, n, "reflections")
    del eye
    new = algebra.mm(t, ops.to(t, s.weight(), new.w), new, s.n_w, "reflected weight")
    bias = s.bias()
    x = ops.to(t, s.x, new.w)
    result = s.in_place(x, new, None if bias is None else ops.to(t, bias, new.w))
    return ops.to(t, result, s.w)

PAIRS = 64  # reflections of which each is held against all before it


def _reflections(s: AdaptedLayer) -> Tensor:
    """get_delta_weight: 1 - 2 u u^T, one after the other; each keeps the product so far."""
    t, u, n = s.t, s.p("hra_u"), s.d_in * s.d_in
    r = s.shape("hra_u")[1]
    units = algebra.div(t, u, algebra.norm(t, u, r), "unit vectors")
    chain = t.alloc(n, u.w, "identity matrix")
    for _ in range(s.steps("r", r)):
        one = ops.piece(t, units, s.d_in)
        chain = ops.sub(t, chain, algebra.mm(t, algebra.mm(t, ops.scale(t, chain), one, s.d_in), one, n), "reflections")
    return chain


def _orthogonal(s: AdaptedLayer) -> Tensor:
    """get_delta_weight with apply_GS: orthogonal vectors (Gram-Schmidt), and one product."""
    t, u, d = s.t, s.p("hra_u"), s.d_in
    found: list[Tensor] = []
    for i in range(s.steps("r", s.shape("hra_u")[1], PAIRS)):
        own = ops.piece(t, u, d)
        for j in range(i):
            own = ops.sub(t, own, ops.mul(t, algebra.mm(t, found[j], own, 1), found[j]))
        found.append(algebra.div(t, own, algebra.norm(t, own, 1), "unit vector"))
    vectors = ops.cat(t, found)
    del found, own
    eye = t.alloc(d * d, u.w, "identity matrix")
    return ops.sub(t, eye, algebra.mm(t, ops.scale(t, vectors), vectors, d * d), "reflections")


METHOD = Method(
    name="hra",
    title="HRA",
    cite="Yuan et al. 2024, arXiv 2405.17484; peft 0.21.2, tuners/hra/layer.py",
    build=build,
    args={"r": 8, "bias": "none"},
    accepts=f"{COMMON} exclude_modules apply_GS init_weights",
    kinds=(LINEAR,),
    mapping="hra",
    work=work,
    forward=forward,
)
