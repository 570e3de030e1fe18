"""VeRA: one pair of frozen random matrices shared by all targets, two trained vectors a target.

Sources: Kopiczko et al. 2024, arXiv 2310.11454; peft 0.21.2, tuners/vera/model.py (the shared pair has the largest
in and out sizes of any target).
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import maximum
from estimator.peft.base import (
    BUFFER,
    COMMON,
    CONV1D,
    LINEAR,
    Args,
    Build,
    Method,
    Module,
    PeftTensor,
    Work,
    low_rank_work,
)
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """lambda_b (d_out) and lambda_d (r) a target; A (r x largest d_in) and B (largest d_out x r) once."""
    r = b.rank = b.args.count("r")
    targets = b.match()
    for m in targets:
        yield PeftTensor(m.name, "vera_lambda_b", (m.d_out,), m.times)
        yield PeftTensor(m.name, "vera_lambda_d", (r,), m.times)
    keep = b.args.flag("save_projection")
    yield PeftTensor("", "vera_A", (r, maximum(*(m.d_in for m in targets))), 1, BUFFER, keep)
    yield PeftTensor("", "vera_B", (maximum(*(m.d_out for m in targets)), r), 1, BUFFER, keep)


def work(m: Module, a: Args) -> Work:
    """LoRA's two products, and two scalings by a vector."""
    base = low_rank_work(m, a["r"])
    return Work(base.flops + a["r"] + m.d_out, 0, 2)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: lambda_b B (lambda_d A x), of which only the two vectors are trained."""
    t = s.t
    result = s.base()
    w = result.w
    if s.packed:
        result = ops.copy(t, result, "output, cloned")
    b, d = s.p("vera_lambda_b"), s.p("vera_lambda_d")
    first, second = s.part("vera_A", d.n * s.d_in), s.part("vera_B", s.d_out * d.n)
    x = ops.to(t, s.x, d.w)
    low = ops.mul(t, d, s.linear(s.dropped(x, "vera_dropout"), first, s.rows * d.n), "VeRA A(x)")
    high = s.linear(low, second)
    del low
    result = ops.add(t, result, ops.mul(t, b, high, "VeRA output"), "output with VeRA")
    result = ops.to(t, result, w)
    return ops.to(t, result, s.w)


METHOD = Method(
    name="vera",
    title="VeRA",
    cite="Kopiczko et al. 2024, arXiv 2310.11454; peft 0.21.2, tuners/vera/model.py",
    build=build,
    args={"r": 256, "save_projection": True, "bias": "none"},
    accepts=f"{COMMON} projection_prng_key vera_dropout d_initial fan_in_fan_out init_weights",
    kinds=(LINEAR, CONV1D),
    mapping="vera",
    work=work,
    forward=forward,
)
