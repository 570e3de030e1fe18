"""Poly: a shelf of ``n_skills`` LoRAs a target, mixed for each task.

Sources: Ponti et al. 2023, arXiv 2202.13914; peft 0.21.2, tuners/poly/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import LINEAR, TARGETS, Args, Build, Method, Module, PeftTensor, Work, low_rank_work


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
    work=work,
)
