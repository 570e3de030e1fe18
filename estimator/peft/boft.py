"""BOFT: a product of block-diagonal rotations (butterflies), and a trained scale an output.

Sources: Liu et al. 2024, arXiv 2311.06243; peft 0.21.2, tuners/boft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.ops import exact_div
from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import F32, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """One butterfly: blocks of s x s numbers, a scale an output; and a d_in x d_in permutation as a buffer."""
    a = b.args
    if a.has("boft_block_num") and a["boft_block_num"] != 0 and not a.has("boft_block_size"):
        a.given["boft_block_size"] = 0
    size, num, butterflies = (
        a.count("boft_block_size", 0),
        a.count("boft_block_num", 0),
        a.count("boft_n_butterfly_factor"),
    )
    if (size == 0) == (num == 0):
        raise InputError("--arg boft_block_size or boft_block_num must be given, and not both: their product is d_in")
    if butterflies != 1:
        b.notes.append(
            f"boft_n_butterfly_factor={int(butterflies)} needs peft's CUDA extension; without it peft uses "
            f"1, counted here"
        )
    for m in b.match():
        given = size or num
        other = exact_div(
            m.d_in, given, f"--method boft: d_in of {m.leaf} over {'boft_block_size' if size else 'boft_block_num'}"
        )
        s, blocks = (given, other) if size else (other, given)
        yield PeftTensor(m.name, "boft_R", (1, blocks, s, s), m.times)
        yield PeftTensor(m.name, "boft_s", (m.d_out, 1), m.times)
        yield PeftTensor(m.name, "boft_P", (1, m.d_in, m.d_in), m.times, BUFFER, saved=False, host=True)


def work(m: Module, a: Args) -> Work:
    """The weight is rotated: permuted, multiplied block by block, scaled; then used in one product as before."""
    size = a["boft_block_size"] or m.d_in // a["boft_block_num"]
    return Work(0, 2 * size * m.d_in * m.d_out + m.d_in * m.d_out, 0)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: a d_in x d_in rotation is written out and the input multiplied by it; the output is scaled."""
    t, w, n = s.t, s.w, s.d_in * s.d_in
    eye, ones = t.alloc(n, w, "identity matrix"), t.alloc(s.d_out, w, "ones")
    r = s.p("boft_R")
    side = s.shape("boft_R")[2]
    q = ops.scale(t, algebra.antisymmetric(t, r), "skew-symmetric matrix")
    orthogonal = ops.to(t, algebra.cayley(t, q, r.n // (side * side), side), r.w)
    del q
    if s.drops("boft_dropout"):
        eyes = t.alloc(r.n, F32, "identity matrices")
        orthogonal = ops.add(t, ops.scale(t, orthogonal), t.alloc(r.n, F32, "dropped blocks"))
        del eyes
    diagonal = algebra.op(t, "block-diagonal matrix", n, orthogonal.w, (orthogonal,))
    p = s.brought("boft_P", w)
    diagonal = ops.to(t, diagonal, w)
    butterfly = algebra.mm(t, p, algebra.mm(t, diagonal, p, n), n)
    rotation = algebra.mm(t, butterfly, eye, n)
    scales = ops.mul(t, s.p("boft_s"), ones, "scales")
    del eye, ones
    rotation = ops.to(t, rotation, w)
    rotated = s.linear(s.x, rotation, s.x.n)
    result = s.base(rotated)
    bias = s.bias()
    if bias is not None:
        result = ops.sub(t, result, bias)
    result = ops.mul(t, result, scales, "scaled output")
    if bias is not None:
        result = ops.add(t, result, bias)
    return ops.to(t, result, w)


METHOD = Method(
    name="boft",
    title="BOFT",
    cite="Liu et al. 2024, arXiv 2311.06243; peft 0.21.2, tuners/boft/layer.py",
    build=build,
    args={"boft_block_size": 4, "boft_block_num": 0, "boft_n_butterfly_factor": 1, "bias": "none"},
    accepts=f"{COMMON} exclude_modules boft_dropout fan_in_fan_out init_weights",
    rank="",
    kinds=(LINEAR,),
    mapping="boft",
    work=work,
    forward=forward,
)
