"""LoHa: the elementwise product of two products of rank r.

Sources: Hyeon-Woo et al. 2022 (FedPara), arXiv 2108.06098; peft 0.21.2, tuners/loha/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, Args, Build, Method, Module, PeftTensor, Work, written_out
from estimator.peft.modules import CONVOLUTION, LINEAR


def build(b: Build) -> Iterator[PeftTensor]:
    """w1_a, w2_a (d_out x r) and w1_b, w2_b (r x d_in)."""
    for part, r in b.ranked():
        d_in = part.d_in if part.kind == LINEAR else part.weights[0][1][1] * part.weights[0][1][2]
        for name in ("hada_w1", "hada_w2"):
            yield PeftTensor(part.name, f"{name}_a", (part.d_out, r), part.times)
            yield PeftTensor(part.name, f"{name}_b", (r, d_in), part.times)


def work(m: Module, a: Args) -> Work:
    """The whole matrix is built (two products, one elementwise) and multiplied."""
    return Work(2 * m.d_in * m.d_out, (4 * a["r"] + 1) * m.d_in * m.d_out, 1)


METHOD = Method(
    name="loha",
    title="LoHa",
    cite="Hyeon-Woo et al. 2022, arXiv 2108.06098; peft 0.21.2, tuners/loha/layer.py",
    build=build,
    args={"r": 8, "rank_pattern": {}},
    accepts=f"{COMMON} exclude_modules alpha alpha_pattern rank_dropout module_dropout use_effective_conv2d "
    f"init_weights",
    kinds=(LINEAR, CONVOLUTION),
    mapping="loha",
    work=work,
    keeps=written_out,
)
