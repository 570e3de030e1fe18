"""DeLoRA: LoRA with normalised rank-one parts and one trained strength a target.

Sources: Bini et al. 2025, arXiv 2503.18225; peft 0.21.2, tuners/delora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work, low_rank_work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_in), B (d_out x r), one strength, and the norms of W's columns as a saved buffer."""
    for part, r in b.ranked():
        yield PeftTensor(part.name, "delora_A", (r, part.d_in), part.times, layers=part.layers)
        yield PeftTensor(part.name, "delora_B", (part.d_out, r), part.times, layers=part.layers)
        yield PeftTensor(part.name, "delora_lambda", (1,), part.times, layers=part.layers)
        yield PeftTensor(part.name, "delora_w_norm", (part.d_in,), part.times, BUFFER, layers=part.layers)


def work(m: Module, a: Args) -> Work:
    """LoRA's two products, and scalings by W's norms (d_in) and by the strengths (r)."""
    return Work(low_rank_work(m, a["r"]).flops + m.d_in + a["r"], 0, 2)


def forward(s: AdaptedLayer) -> Tensor:
    """DeloraLinear.forward: B A with both normed, scaled by a trained strength and the norms of W."""
    t = s.t
    result = s.base()
    added = t.alloc(s.n_out, result.w, "zeros")
    a, b, strength = s.p("delora_A"), s.p("delora_B"), s.p("delora_lambda")
    r = s.shape("delora_A")[0]
    x = s.dropped(s.x, "module_dropout")
    low = s.linear(ops.mul(t, x, s.p("delora_w_norm"), "input times the norms"), a, s.rows * r)
    one, two = (ops.unary(t, algebra.norm(t, part, r), "norm, at least", "input") for part in (a, b))
    scaling = algebra.div(t, ops.expand(t, ops.scale(t, strength), r), ops.mul(t, one, two), "scaling")
    del one, two
    low = ops.mul(t, low, scaling, "DeLoRA A(x)")
    low = s.linear(low, b)
    added = ops.add_into(t, added, low)
    return ops.to(t, ops.add(t, result, ops.to(t, added, result.w), "output with DeLoRA"), s.w)


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
    forward=forward,
)
