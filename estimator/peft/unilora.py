"""Uni-LoRA: every entry of every A and B is one of ``theta_d_length`` trained numbers.

Sources: Li et al. 2025, arXiv 2506.00799; peft 0.21.2, tuners/unilora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """An index and a scale an entry as buffers; the numbers once."""
    a = b.args
    r = b.rank = a.count("r")
    keep = a.flag("save_indices")
    for m in b.match():
        for what in ("indices", "scales"):
            yield PeftTensor(m.name, f"unilora_{what}_A", (r, m.d_in), m.times, BUFFER, keep)
            yield PeftTensor(m.name, f"unilora_{what}_B", (m.d_out, r), m.times, BUFFER, keep)
    yield PeftTensor("", "unilora_theta_d", (a.count("theta_d_length"),))


def work(m: Module, a: Args) -> Work:
    """LoRA's two products; the factors are gathered and scaled once a forward pass."""
    return Work(low_rank_work(m, a["r"]).flops, a["r"] * (m.d_in + m.d_out), 2)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: A and B are looked up in one vector, and scaled."""
    t = s.t
    result = s.base()
    theta, r = s.p("unilora_theta_d"), s.shape("unilora_indices_A")[0]
    a, b = _looked_up(s, theta, "A"), _looked_up(s, theta, "B")
    x = ops.to(t, s.x, theta.w)
    made = s.linear(s.linear(s.dropped(x, "unilora_dropout"), a, s.rows * r), b)
    result = ops.add(t, result, made, "output with Uni-LoRA")
    del made
    return ops.to(t, result, s.w)


def _looked_up(s: AdaptedLayer, theta: Tensor, side: str) -> Tensor:
    """_get_lora_matrices."""
    index, scales = s.p(f"unilora_indices_{side}"), s.p(f"unilora_scales_{side}")
    return ops.mul(s.t, algebra.looked_up(s.t, theta, index.n, index), scales, f"Uni-LoRA {side}")


METHOD = Method(
    name="unilora",
    title="Uni-LoRA",
    cite="Li et al. 2025, arXiv 2506.00799; peft 0.21.2, tuners/unilora/layer.py",
    build=build,
    args={"r": 4, "theta_d_length": 256, "save_indices": False, "bias": "none"},
    accepts=f"{COMMON} proj_seed unilora_dropout fan_in_fan_out init_theta_d_bound init_weights",
    kinds=(LINEAR, CONV1D),
    mapping="unilora",
    work=work,
    forward=forward,
)
