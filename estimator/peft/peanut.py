"""PEANuT: a small network that maps the weight to its own update.

Source: peft 0.21.2, tuners/peanut/layer.py (A reads the weight's outputs, so the input size does not count).
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, LINEAR, Build, Method, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.nn import activation
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_out), B (d_out x r), and ``depth`` encoders and decoders of r x r."""
    r, depth = b.args.count("r"), b.args.count("depth", 0)
    b.rank = r
    for m in b.match():
        yield PeftTensor(m.name, "peanut_A.weight", (r, m.d_out), m.times)
        yield PeftTensor(m.name, "peanut_B.weight", (m.d_out, r), m.times)
        if depth > 0:
            yield PeftTensor(m.name, "peanut_encoders.weight", (depth, r, r), m.times)
            yield PeftTensor(m.name, "peanut_decoders.weight", (depth, r, r), m.times)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: a network of the weight itself gives its change, which is written out."""
    t = s.t
    result = s.base()
    change = _change(s)
    x = ops.to(t, s.x, change.w)
    made = s.linear(x, change)
    return ops.add(t, result, ops.to(t, made, result.w), "output with PEANuT")


def _change(s: AdaptedLayer) -> Tensor:
    """_compute_delta_weight: down to r, through encoders and decoders with a function after each, and up."""
    t, a = s.t, s.view("peanut_A.weight")
    r, name = s.shape("peanut_A.weight")[0], str(s.args["act_fn"] or "relu")
    n, depth = s.d_in * r, s.steps("depth", s.args.count("depth", 0))
    made = activation(t, algebra.mm(t, ops.to(t, s.weight(), a.w), a, n), name)
    residuals = []
    for i in range(depth):
        residuals.append(made)
        made = activation(t, s.linear(made, s.item("peanut_encoders.weight", i, r * r), n), name)
    for i in range(depth):
        made = activation(t, s.linear(made, s.item("peanut_decoders.weight", i, r * r), n), name)
        made = ops.add(t, made, residuals[depth - 1 - i])
    made = s.linear(made, s.p("peanut_B.weight"), s.n_w)
    return ops.scale(t, made, "PEANuT weight")


METHOD = Method(
    name="peanut",
    title="PEANuT",
    cite="peft 0.21.2, tuners/peanut/layer.py",
    build=build,
    args={"r": 32, "depth": 0},
    accepts=f"{COMMON} exclude_modules act_fn scaling init_weights",
    kinds=(LINEAR,),
    mapping="peanut",
    forward=forward,
)
