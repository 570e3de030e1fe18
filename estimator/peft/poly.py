"""Poly: a shelf of ``n_skills`` LoRAs a target, mixed for each task.

Sources: Ponti et al. 2023, arXiv 2202.13914; peft 0.21.2, tuners/poly/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.peft.base import LINEAR, TARGETS, Args, Build, Method, Module, PeftTensor, Work, low_rank_work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """n_splits x n_skills factors A and B, and the tasks' logits."""
    a = b.args
    r = b.rank = a.count("r")
    tasks, skills, splits = a.count("n_tasks"), a.count("n_skills"), a.count("n_splits")
    a.choice("poly_type", "poly")
    for m in b.match():
        yield PeftTensor(m.name, "poly_router.module_logits", (tasks, splits * skills), m.times)
        yield PeftTensor(m.name, "poly_lora_A", (splits, skills, m.d_in // splits, r), m.times)
        yield PeftTensor(m.name, "poly_lora_B", (splits, skills, r, m.d_out // splits), m.times)


def work(m: Module, a: Args) -> Work:
    """The mixed factors (once a sequence), then LoRA's two products."""
    return Work(low_rank_work(m, a["r"]).flops, 2 * a["n_skills"] * a["r"] * (m.d_in + m.d_out), 2)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: a sequence's A and B, mixed of all skills as its task's router says, and added in place."""
    t, b = s.t, s.sequences
    result = s.base()
    splits, skills, _, r = s.shape("poly_lora_A")
    shares = _shares(s, b * splits * skills)
    a = algebra.mm(t, shares, s.view("poly_lora_A"), b * s.d_in * r, "mixed A")
    other = algebra.mm(t, shares, s.view("poly_lora_B"), b * r * s.d_out, "mixed B")
    if splits != 1:  # einsum's batch is the split, which stands inside a sequence
        a = ops.copy(t, a, "mixed A, in order") if b != 1 else a
        other = ops.copy(t, other, "mixed B, in order")
    x = ops.to(t, s.x, a.w)
    low = algebra.mm(t, x, a, s.rows * r, "Poly A(x)")
    change = algebra.mm(t, low, other, s.n_out, "Poly B(A(x))")
    del low
    change = ops.scale(t, change, "Poly output")
    result = ops.add_into(t, result, change)
    return ops.to(t, result, s.w)


def _shares(s: AdaptedLayer, n: Any) -> Tensor:
    """PolyRouter.forward: the task's logits with noise (RelaxedBernoulli), through a sigmoid, over their sum."""
    t = s.t
    logits = algebra.looked_up(t, s.p("poly_router.module_logits"), n)
    noisy = ops.sigmoid(t, ops.scale(t, ops.shift(t, logits, "logits with noise")))
    total = ops.shift(t, algebra.summed(t, noisy, s.sequences * s.shape("poly_lora_A")[0]), "sum, not 0")
    return algebra.div(t, noisy, total, "shares of the skills")


METHOD = Method(
    name="poly",
    title="Poly",
    cite="Ponti et al. 2023, arXiv 2202.13914; peft 0.21.2, tuners/poly/layer.py",
    build=build,
    args={"r": 8, "poly_type": "poly", "n_tasks": 1, "n_skills": 4, "n_splits": 1},
    accepts=f"{TARGETS} exclude_modules init_weights",
    kinds=(LINEAR,),
    mapping="poly",
    merges=False,
    recomputes=False,
    work=work,
    forward=forward,
)
