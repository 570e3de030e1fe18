"""BEFT: one trained bias a target.

Source: peft 0.21.2, tuners/beft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import LINEAR, TARGETS, Args, Build, Method, Module, PeftTensor, Work
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """d_out numbers a target."""
    for m in b.match():
        yield PeftTensor(m.name, "beft_bias", (1, m.d_out), m.times)


def work(m: Module, a: Args) -> Work:
    """One addition an output."""
    return Work(m.d_out)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: a bias in its own format."""
    t = s.t
    result = s.base()
    return ops.to(t, ops.add(t, result, s.p("beft_bias"), "output with BEFT"), result.w)


METHOD = Method(
    name="beft",
    title="BEFT",
    cite="peft 0.21.2, tuners/beft/layer.py",
    build=build,
    accepts=f"{TARGETS} init_weights",
    rank="",
    kinds=(LINEAR,),
    mapping="beft",
    work=work,
    forward=forward,
)
