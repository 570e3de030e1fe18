"""GraLoRA: k x k blocks of the matrix, each with its own LoRA of rank r/k; a plain LoRA of rank hybrid_r beside.

Sources: Jung et al. 2025, arXiv 2505.20355; peft 0.21.2, tuners/gralora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.ops import exact_div
from estimator.peft.base import COMMON, CONV1D, LINEAR, Args, Build, Method, Module, PeftTensor, Work, low_rank_work
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """k factors A (d_in/k x r) and k factors B (r x d_out/k), as many numbers as LoRA of rank r."""
    a = b.args
    r, k, extra = a.count("r"), a.count("gralora_k"), a.count("hybrid_r", 0)
    b.rank = r
    if r % k != 0:
        raise InputError(f"--rank {int(r)}: GraLoRA needs a multiple of gralora_k={int(k)}")
    for m in b.match():
        rows = exact_div(m.d_in, k, f"--method gralora: d_in of {m.leaf} over gralora_k")
        columns = exact_div(m.d_out, k, f"--method gralora: d_out of {m.leaf} over gralora_k")
        yield PeftTensor(m.name, "gralora_A", (k, rows, r), m.times)
        yield PeftTensor(m.name, "gralora_B", (k, r, columns), m.times)
        if extra > 0:
            yield PeftTensor(m.name, "gralora_A_general.weight", (extra, m.d_in), m.times)
            yield PeftTensor(m.name, "gralora_B_general.weight", (m.d_out, extra), m.times)


def work(m: Module, a: Args) -> Work:
    """The products of LoRA of rank r + hybrid_r."""
    return low_rank_work(m, a["r"] + a["hybrid_r"])


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: blocks of the input by blocks of A, and what they share by blocks of B."""
    t = s.t
    result = s.base()
    w, x = result.w, s.x
    a, b = s.p("gralora_A"), s.p("gralora_B")
    r = s.shape("gralora_A")[2]
    n = s.rows * r * s.shape("gralora_A")[0]
    low = ops.matmul(t, ops.by_heads(t, s.dropped(ops.to(t, x, a.w), "gralora_dropout")), a, n, None, "GraLoRA A(x)")
    low = ops.copy(t, low, "A(x), by output blocks")
    made = ops.matmul(t, ops.by_heads(t, low), b, s.n_out, None, "GraLoRA B(A(x))")
    del low
    made = ops.copy(t, made, "B(A(x)), in rows")
    result = ops.add_into(t, result, ops.scale(t, ops.to(t, made, w), "GraLoRA output"))
    if s.has("gralora_A_general.weight"):
        a, b = s.p("gralora_A_general.weight"), s.p("gralora_B_general.weight")
        low = s.linear(s.dropped(ops.to(t, x, a.w), "gralora_dropout"), a, s.rows * a.n // s.d_in)
        more = s.linear(low, b)
        del low
        result = ops.add_into(t, result, ops.scale(t, ops.to(t, more, w), "GraLoRA's LoRA"))
    return ops.to(t, result, s.w)


METHOD = Method(
    name="gralora",
    title="GraLoRA",
    cite="Jung et al. 2025, arXiv 2505.20355; peft 0.21.2, tuners/gralora/layer.py",
    build=build,
    args={"r": 32, "hybrid_r": 0, "gralora_k": 2, "bias": "none"},
    accepts=f"{COMMON} alpha gralora_dropout fan_in_fan_out init_weights",
    kinds=(LINEAR, CONV1D),
    mapping="gralora",
    work=work,
    forward=forward,
)
