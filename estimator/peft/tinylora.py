"""TinyLoRA: ``u`` trained numbers a group of modules, mixed by a frozen tensor inside the weight's top r directions.

Source: peft 0.21.2, tuners/tinylora/model.py and layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import minimum
from estimator.peft.base import BUFFER, COMMON, CONV1D, LINEAR, Build, Method, PeftTensor
from estimator.peft.modules import EMBEDDING
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor
from estimator.trace import value_of


def build(b: Build) -> Iterator[PeftTensor]:
    """A, B of the top r singular directions and P (u x r x r) as buffers; a vector of u for each group of modules."""
    a = b.args
    r, u = a.count("r"), a.count("u")
    b.rank = r
    tying = a.number("weight_tying", 0.0, 1.0)
    targets = b.match()
    keep = a.flag("save_projection")
    for m in targets:
        rank = minimum(r, m.d_in, m.d_out)
        yield PeftTensor(m.name, "tinylora_A", (rank, m.d_in), m.times, BUFFER)
        yield PeftTensor(m.name, "tinylora_B", (m.d_out, rank), m.times, BUFFER)
        yield PeftTensor(m.name, "tinylora_P", (u, rank, rank), m.times, BUFFER, keep)
    count = sum(m.times for m in targets)
    if tying == 0:
        groups = count
    else:
        n = int(value_of(count))
        wanted = max(1, round(n * (1.0 - tying)))
        size = max(1, n // wanted)
        groups = len({min(i // size, wanted - 1) for i in range(n)}) if n <= 10**6 else wanted
    yield PeftTensor("", "tinylora_v", (u,), groups, stored="base_model.tinylora_v.{i}")


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: B R A x, of which R alone is trained, by a vector that mixes fixed matrices."""
    t = s.t
    result = s.base()
    a, b, p, v = (s.p(f"tinylora_{name}") for name in "ABPv")
    r = s.shape("tinylora_A")[0]
    mixed = algebra.mm(t, v, p, r * r, "R")
    x = ops.to(t, s.dropped(s.x, "tinylora_dropout"), a.w)
    low = s.linear(x, a, s.rows * r)
    low = s.linear(low, mixed, s.rows * r)
    change = s.linear(low, b)
    result = ops.add(t, result, change, "output with TinyLoRA")
    return ops.to(t, result, s.w)


METHOD = Method(
    name="tinylora",
    title="TinyLoRA",
    cite="peft 0.21.2, tuners/tinylora/model.py",
    build=build,
    args={"r": 2, "u": 64, "weight_tying": 0.0, "save_projection": True, "bias": "none"},
    accepts=f"{COMMON} projection_seed init_v_bound tinylora_dropout fan_in_fan_out init_weights",
    kinds=(LINEAR, CONV1D, EMBEDDING),
    mapping="tinylora",
    forward=forward,
)
