"""PSOFT: a rotation of r directions inside the principal subspace of the weight.

Source: peft 0.21.2, tuners/psoft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.ops import minimum
from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import F32, Tensor

TERMS = 5  # num_cayley_neumann_terms, where none is given


def build(b: Build) -> Iterator[PeftTensor]:
    """r(r-1)/2 angles (or r x r numbers) and two vectors of r; the subspace A, B as unsaved buffers."""
    a = b.args
    r = b.rank = a.count("r")
    orthogonal = a.flag("psoft_orth")
    angles = r * (r - 1) // 2
    for m in b.match():
        if r > min(m.d_in, m.d_out):
            raise InputError(
                f"--rank {int(r)}: PSOFT needs a rank of at most {int(min(m.d_in, m.d_out))}, the smaller "
                f"side of {m.example!r}"
            )
        yield PeftTensor(m.name, "psoft_R.weight", (angles,) if orthogonal else (r, r), m.times)
        for name in ("b", "a"):
            if a.flag(f"psoft_mag_{name}"):
                yield PeftTensor(m.name, f"psoft_R.vector_{name}", (r,), m.times)
        if orthogonal:
            yield PeftTensor(m.name, "psoft_R.rows", (angles,), m.times, BUFFER, saved=False)
            yield PeftTensor(m.name, "psoft_R.cols", (angles,), m.times, BUFFER, saved=False)
        # the first rows of V^T as torch.linalg.svd made it, in fp32: a view, which holds all of it
        whole = (minimum(m.d_in, m.d_out) - r) * m.d_in * F32
        kept = whole if a["ab_svd_init"] in (None, "psoft_init") and a["psoft_svd"] in (None, "full") else 0
        yield PeftTensor(m.name, "_psoft_A_cache", (r, m.d_in), m.times, BUFFER, saved=False, around=kept)
        yield PeftTensor(m.name, "_psoft_B_cache", (m.d_out, r), m.times, BUFFER, saved=False)


def work(m: Module, a: Args) -> Work:
    """A, the r x r rotation and B."""
    r = a["r"]
    return Work(2 * r * (m.d_in + m.d_out) + 2 * r * r, 0, 3)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: what a rotation inside the frozen subspace changes."""
    t = s.t
    result = s.base()
    w = result.w
    a, b = (Tensor(s.p(f"_psoft_{name}_cache").n, F32, None) for name in "AB")
    r = s.shape("_psoft_A_cache")[0]
    x = ops.to(t, s.x, F32)
    low = s.linear(s.dropped(x, "psoft_dropout"), a, s.rows * r)
    turned = _turned(s, low)
    change = s.linear(ops.sub(t, turned, low), b)
    result = ops.add(t, result, ops.scale(t, change, "PSOFT output"), "output with PSOFT")
    return ops.to(t, result, w)


def _turned(s: AdaptedLayer, low: Tensor) -> Tensor:
    """OrthLayer.forward."""
    turn = _rotation(s)
    made = s.linear(low, ops.to(s.t, turn, low.w), low.n)
    return ops.to(s.t, made, low.w)


def _rotation(s: AdaptedLayer) -> Tensor:
    """get_matrix: Cayley's, solved in fp32 or as a series, times a vector on either side."""
    t, weight = s.t, s.p("psoft_R.weight")
    side = s.shape("_psoft_A_cache")[0]
    turn: Tensor = weight
    if s.args["psoft_orth"]:
        zeros = t.alloc(side * side, weight.w, "zeros")
        filled = algebra.op(t, "angles in a triangle", side * side, weight.w, (weight,), (s.p("psoft_R.rows"),))
        del zeros
        q = algebra.antisymmetric(t, filled)
        del filled
        if s.flag("use_cayley_neumann"):
            turn = algebra.neumann(t, q, 1, side, s.count("num_cayley_neumann_terms", TERMS))
        else:
            turn = algebra.cayley(t, ops.to(t, q, F32), 1, side)
        del q
    for name in ("b", "a"):
        if s.has(f"psoft_R.vector_{name}"):
            turn = ops.mul(t, turn, s.p(f"psoft_R.vector_{name}"), "scaled rotation")
    return ops.to(t, turn, weight.w)


METHOD = Method(
    name="psoft",
    title="PSOFT",
    cite="peft 0.21.2, tuners/psoft/layer.py",
    build=build,
    args={"r": 32, "psoft_orth": True, "psoft_mag_b": True, "psoft_mag_a": True},
    accepts=f"{COMMON} exclude_modules psoft_alpha psoft_dropout fan_in_fan_out ab_svd_init psoft_svd "
    f"psoft_svd_lowrank_niter random_seed "
    "use_cayley_neumann num_cayley_neumann_terms cayley_neumann_eps init_weights",
    kinds=(LINEAR,),
    mapping="psoft",
    work=work,
    forward=forward,
)
