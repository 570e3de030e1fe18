"""HRA: a chain of r Householder reflections of the input.

Sources: Yuan et al. 2024, arXiv 2405.17484; peft 0.21.2, tuners/hra/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work


def build(b: Build) -> Iterator[PeftTensor]:
    """r vectors of d_in numbers."""
    r = b.rank = b.args.count("r")
    for m in b.match():
        yield PeftTensor(m.name, "hra_u", (m.d_in, r), m.times)


def work(m: Module, a: Args) -> Work:
    """peft reflects the weight, not the input: r rank-one updates of a d_in x d_in matrix, then one product with W."""
    return Work(0, 4 * a["r"] * m.d_in * m.d_in + 2 * m.d_in * m.d_in * m.d_out, 0)


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
)
