"""HiRA: the weight times (elementwise) one plus a product of rank r.

Sources: Huang et al. 2025 (HiRA, ICLR); peft 0.21.2, tuners/hira/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, CONV1D, LINEAR, Args, Build, Method, Module, PeftTensor, Work
from estimator.peft.modules import CONVOLUTION, EMBEDDING
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_in) and B (d_out x r)."""
    r = b.rank = b.args.count("r")
    if b.args.patterns("rank_pattern"):
        b.notes.append("rank_pattern has no effect: peft 0.21.2 makes every HiRA layer over unpacked weights with r")
    for part in b.match():
        kernel = part.weights[0][1][-1] if part.kind == CONVOLUTION else 1
        name = "hira_embedding_" if part.kind == EMBEDDING else "hira_"
        yield PeftTensor(
            part.name,
            f"{name}A",
            (r, part.d_in, kernel) if part.kind == CONVOLUTION else (r, part.d_in),
            part.times,
            layers=part.layers,
        )
        yield PeftTensor(part.name, f"{name}B", (part.d_out, r), part.times, layers=part.layers)


def work(m: Module, a: Args) -> Work:
    """W * (B A) is built (a product and an elementwise one) and multiplied."""
    return Work(2 * m.d_in * m.d_out, (2 * a["r"] + 1) * m.d_in * m.d_out, 1)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: W * (B A) is written out and multiplied with the input."""
    t = s.t
    result = s.base()
    w = result.w
    a = s.p("hira_A")
    change = algebra.mm(t, a, s.p("hira_B"), s.n_w, "B A")
    x = ops.to(t, s.x, a.w)
    dropped = s.dropped(x, "hira_dropout")
    made = s.linear(dropped, ops.mul(t, s.weight(), change, "HiRA weight"))
    result = ops.add(t, result, made, "output with HiRA")
    return ops.to(t, result, w)


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
    forward=forward,
)
