"""Super-Tuning: the largest weights are trained in place; with ``r`` a LoRA beside them (Supra).

Source: peft 0.21.2, tuners/supertuning/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import BUFFER, LINEAR, TARGETS, Args, Build, Method, Module, PeftTensor, Work, low_rank_work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import I64, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """int(d_in*d_out*(1 - sparsity)) values, their places as a buffer, and LoRA's factors where ``r`` is given."""
    a = b.args
    sparsity = a.number("sparsity", 0.0, 1.0)
    b.rank = a.count("r") if a.has("r") else None
    for m in b.match():
        kept = int(int(m.d_in * m.d_out) * (1 - sparsity))  # in floating point, as peft computes it
        if kept < 1:
            raise InputError(f"--arg sparsity={sparsity:g} leaves nothing of {m.example!r} to train")
        yield PeftTensor(m.name, "supertuning_values", (kept,), m.times)
        yield PeftTensor(m.name, "supertuning_indices", (kept,), m.times, BUFFER, a.flag("save_precomputed_indices"))
        if b.rank is not None:
            yield PeftTensor(m.name, "supertuning_lora_A.weight", (b.rank, m.d_in), m.times)
            yield PeftTensor(m.name, "supertuning_lora_B.weight", (m.d_out, b.rank), m.times)


def work(m: Module, a: Args) -> Work:
    """The values are added to a copy of the weight; LoRA's product is added to it too."""
    return Work(0, (1 + 2 * (a["r"] or 0)) * m.d_in * m.d_out, 0)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: a copy of the weight with the values added takes its place; LoRA beside it."""
    t = s.t
    weight = s.weight()
    index = t.alloc(s.p("supertuning_values").n, I64, "places in 64 bits")
    values = ops.to(t, s.p("supertuning_values"), weight.w)
    whole = algebra.op(t, "weight with the values", s.n_w, weight.w, (values,), (index,))
    result = s.in_place(s.x, whole, s.bias())
    if s.has("supertuning_lora_A.weight"):
        a, b = s.p("supertuning_lora_A.weight"), s.p("supertuning_lora_B.weight")
        dropped = ops.to(t, s.dropped(s.x, "lora_dropout"), a.w)
        made = s.linear(s.linear(dropped, a, s.rows * a.n // s.d_in), b)
        result = ops.add(t, result, ops.to(t, ops.scale(t, made), result.w), "output with LoRA")
    return result


METHOD = Method(
    name="supertuning",
    title="Super-Tuning",
    cite="peft 0.21.2, tuners/supertuning/layer.py",
    build=build,
    args={"sparsity": 0.99, "r": None, "save_precomputed_indices": True},
    accepts=f"{TARGETS} select_top lora_alpha lora_dropout init_weights",
    kinds=(LINEAR,),
    mapping="supertuning",
    work=work,
    forward=forward,
)
__all__ = ["METHOD", "low_rank_work"]
