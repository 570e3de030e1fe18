"""PSOFT: a rotation of r directions inside the principal subspace of the weight.

Source: peft 0.21.2, tuners/psoft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Kept, Method, Module, PeftTensor, Work


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
        yield PeftTensor(m.name, "_psoft_A_cache", (r, m.d_in), m.times, BUFFER, saved=False)
        yield PeftTensor(m.name, "_psoft_B_cache", (m.d_out, r), m.times, BUFFER, saved=False)


def work(m: Module, a: Args) -> Work:
    """A, the r x r rotation and B."""
    r = a["r"]
    return Work(2 * r * (m.d_in + m.d_out) + 2 * r * r, 0, 3)


def keeps(m: Module, a: Args) -> Kept:
    """A and B are frozen: what the rotation multiplies is kept."""
    return Kept(a["r"])


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
    keeps=keeps,
)
