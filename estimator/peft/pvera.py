"""PVeRA: VeRA whose update is sampled: mean and variance double A's rows and the vector beside them.

Source: peft 0.21.2, tuners/pvera/model.py and layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import maximum
from estimator.peft.base import BUFFER, COMMON, CONV1D, LINEAR, Build, Method, PeftTensor
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """lambda_b (d_out) and lambda_d (2r) a target; A (2r x largest d_in) and B (largest d_out x r) once."""
    r = b.rank = b.args.count("r")
    targets = b.match()
    for m in targets:
        yield PeftTensor(m.name, "pvera_lambda_b", (m.d_out,), m.times)
        yield PeftTensor(m.name, "pvera_lambda_d", (2 * r,), m.times)
    keep = b.args.flag("save_projection")
    yield PeftTensor("", "pvera_A", (2 * r, maximum(*(m.d_in for m in targets))), 1, BUFFER, keep)
    yield PeftTensor("", "pvera_B", (maximum(*(m.d_out for m in targets)), r), 1, BUFFER, keep)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: as VeRA, with a mean and a variance from which what passes is drawn."""
    t = s.t
    result = s.base()
    b, d = s.p("pvera_lambda_b"), s.p("pvera_lambda_d")
    r = d.n // 2
    first, second = s.part("pvera_A", d.n * s.d_in), s.part("pvera_B", s.d_out * r)
    x = ops.to(t, s.x, d.w)
    both = ops.mul(t, d, s.linear(s.dropped(x, "pvera_dropout"), first, s.rows * d.n), "PVeRA A(x)")
    mean, spread = ops.split(t, both, (s.rows * r, s.rows * r))
    del both
    high = s.linear(_drawn(s, mean, spread), second)
    result = ops.add(t, result, ops.mul(t, b, high, "PVeRA output"), "output with PVeRA")
    return ops.to(t, result, s.w)


def _drawn(s: AdaptedLayer, mean: Tensor, spread: Tensor) -> Tensor:
    """_reparametrize: the mean, and noise times the deviation."""
    t = s.t
    deviation = ops.unary(t, ops.scale(t, spread), "exp", "result")
    noise = t.alloc(mean.n, mean.w, "noise")
    return ops.add(t, mean, ops.mul(t, noise, deviation), "drawn")


METHOD = Method(
    name="pvera",
    title="PVeRA",
    cite="peft 0.21.2, tuners/pvera/model.py",
    build=build,
    args={"r": 256, "save_projection": True, "bias": "none"},
    accepts=f"{COMMON} projection_prng_key pvera_dropout d_initial fan_in_fan_out init_weights "
    f"sample_at_inference generator_seed",
    kinds=(LINEAR, CONV1D),
    mapping="pvera",
    forward=forward,
)
