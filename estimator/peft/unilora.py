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
)
