"""DeLoRA: LoRA with normalised rank-one parts and one trained strength a target.

Sources: Bini et al. 2025, arXiv 2503.18225; peft 0.21.2, tuners/delora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work, low_rank_work


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_in), B (d_out x r), one strength, and the norms of W's columns as a saved buffer."""
    for part, r in b.ranked():
        yield PeftTensor(part.name, "delora_A", (r, part.d_in), part.times)
        yield PeftTensor(part.name, "delora_B", (part.d_out, r), part.times)
        yield PeftTensor(part.name, "delora_lambda", (1,), part.times)
        yield PeftTensor(part.name, "delora_w_norm", (part.d_in,), part.times, BUFFER)


def work(m: Module, a: Args) -> Work:
    """LoRA's two products, and scalings by W's norms (d_in) and by the strengths (r)."""
    return Work(low_rank_work(m, a["r"]).flops + m.d_in + a["r"], 0, 2)


METHOD = Method(
    name="delora",
    title="DeLoRA",
    cite="Bini et al. 2025, arXiv 2503.18225; peft 0.21.2, tuners/delora/layer.py",
    build=build,
    args={"r": 8, "rank_pattern": {}, "bias": "none"},
    accepts=f"{COMMON} exclude_modules delora_lambda module_dropout init_weights lambda_pattern",
    kinds=(LINEAR,),
    mapping="delora",
    work=work,
)
