"""RoAd: rotations of pairs of outputs, with a scale each.

Sources: Liao and Monz 2024, arXiv 2409.00119; peft 0.21.2, tuners/road/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import exact_div
from estimator.peft.base import LINEAR, TARGETS, Args, Build, Method, Module, PeftTensor, Work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor

HALVES = {"road_1": 1, "road_2": 2, "road_4": 4}  # angles an output, in halves


def build(b: Build) -> Iterator[PeftTensor]:
    """d_out/2, d_out or 2*d_out angles, and as many scales."""
    a = b.args
    halves, group = HALVES[a.choice("variant", *HALVES)], a.count("group_size", 2)
    if group % 2:
        raise a.bad("group_size", "must be even")
    for m in b.match():
        exact_div(m.d_out, group, f"--method road: d_out of {m.leaf} over group_size")
        size = halves * m.d_out // 2
        yield PeftTensor(m.name, "road_theta", (size,), m.times)
        yield PeftTensor(m.name, "road_alpha", (size,), m.times)


def work(m: Module, a: Args) -> Work:
    """Two products and a sum an output."""
    return Work(3 * m.d_out, 0, 0)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: the output's pairs are rotated and scaled, in the angles' format."""
    t = s.t
    result = s.base()
    w = result.w
    theta, alpha = s.p("road_theta"), s.p("road_alpha")
    result = ops.to(t, result, theta.w)
    return ops.to(t, _rotated(s, result, theta, alpha), w)


def _rotated(s: AdaptedLayer, x: Tensor, theta: Tensor, alpha: Tensor) -> Tensor:
    """_apply_road."""
    t, n = s.t, s.d_out
    columns = []
    if theta.n == n // 2:  # road_1: each angle twice
        theta, alpha = algebra.repeated(t, theta, 2), algebra.repeated(t, alpha, 2)
    for name in ("cos", "sin"):
        angles, sizes = theta, alpha
        if theta.n == 2 * n:  # road_4: its own for each column
            angles, sizes = ops.piece(t, theta, n), ops.copy(t, ops.piece(t, alpha, n))
        columns.append(ops.mul(t, sizes, ops.unary(t, angles, name, "input"), f"{name} column"))
    first, second = columns
    half = x.n // 2
    rotated = ops.cat(t, [ops.neg(t, ops.piece(t, x, half)), ops.piece(t, x, half)], "halves, rotated")
    return ops.add(t, ops.mul(t, x, first), ops.mul(t, rotated, second), "output with RoAd")


METHOD = Method(
    name="road",
    title="RoAd",
    cite="Liao and Monz 2024, arXiv 2409.00119; peft 0.21.2, tuners/road/layer.py",
    build=build,
    args={"variant": "road_1", "group_size": 64},
    accepts=f"{TARGETS} init_weights",
    rank="",
    kinds=(LINEAR,),
    mapping="road",
    work=work,
    forward=forward,
)
