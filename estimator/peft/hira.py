"""HiRA: the weight times (elementwise) one plus a product of rank r.

Sources: Huang et al. 2025 (HiRA, ICLR); peft 0.21.2, tuners/hira/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, CONV1D, LINEAR, Args, Build, Method, Module, PeftTensor, Work, written_out
from estimator.peft.modules import CONVOLUTION, EMBEDDING


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_in) and B (d_out x r)."""
    for part, r in b.ranked():
        kernel = part.weights[0][1][-1] if part.kind == CONVOLUTION else 1
        name = "hira_embedding_" if part.kind == EMBEDDING else "hira_"
        yield PeftTensor(
            part.name,
            f"{name}A",
            (r, part.d_in, kernel) if part.kind == CONVOLUTION else (r, part.d_in),
            part.times,
        )
        yield PeftTensor(part.name, f"{name}B", (part.d_out, r), part.times)


def work(m: Module, a: Args) -> Work:
    """W * (B A) is built (a product and an elementwise one) and multiplied."""
    return Work(2 * m.d_in * m.d_out, (2 * a["r"] + 1) * m.d_in * m.d_out, 1)


METHOD = Method(
    name="hira",
    title="HiRA",
    cite="peft 0.21.2, tuners/hira/layer.py",
    build=build,
    args={"r": 32, "rank_pattern": {}},
    accepts=f"{COMMON} exclude_modules hira_dropout fan_in_fan_out init_weights",
    kinds=(LINEAR, CONV1D, EMBEDDING, CONVOLUTION),
    mapping="hira",
    work=work,
    keeps=written_out,
)
