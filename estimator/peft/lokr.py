"""LoKr: a Kronecker product of two small matrices, either whole or itself of rank r.

Sources: Yeh et al. 2024 (LyCORIS), arXiv 2309.14859; peft 0.21.2, tuners/lokr/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.peft.base import COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import F32, Tensor

MAX_SEARCH = 10**7  # a dimension whose divisors are looked for one by one; no layer comes near


def factors(size: Any, factor: int) -> tuple[Any, Any]:
    """``size`` as (small, large): ``factor`` exactly where it divides, else the most balanced pair up to it."""
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    n = int(size)
    limit = n if factor == -1 else factor
    m, k = 1, n
    while m < k:
        new = next(i for i in range(m + 1, n + 1) if n % i == 0)
        if new + n // new > m + k or new > limit:
            break
        m, k = new, n // new
    return min(m, k), max(m, k)


def build(b: Build) -> Iterator[PeftTensor]:
    """w1 of the small factors and w2 of the large ones; each whole, or as a product where r is below half its side."""
    a = b.args
    both, factor = a.flag("decompose_both"), a["decompose_factor"]
    if isinstance(factor, bool) or not isinstance(factor, int) or (factor < 1 and factor != -1):
        raise a.bad("decompose_factor", "must be -1 or a whole number >= 1")
    for part, r in b.ranked():
        if part.d_in > MAX_SEARCH or part.d_out > MAX_SEARCH:
            raise a.bad("decompose_factor", f"cannot split {part.example!r}: too large")
        (in_m, in_n), (out_l, out_k) = factors(part.d_in, factor), factors(part.d_out, factor)
        if both and 2 * r < max(out_l, in_m):
            yield PeftTensor(part.name, "lokr_w1_a", (out_l, r), part.times, layers=part.layers)
            yield PeftTensor(part.name, "lokr_w1_b", (r, in_m), part.times, layers=part.layers)
        else:
            yield PeftTensor(part.name, "lokr_w1", (out_l, in_m), part.times, layers=part.layers)
        if 2 * r < max(out_k, in_n):
            yield PeftTensor(part.name, "lokr_w2_a", (out_k, r), part.times, layers=part.layers)
            yield PeftTensor(part.name, "lokr_w2_b", (r, in_n), part.times, layers=part.layers)
        else:
            yield PeftTensor(part.name, "lokr_w2", (out_k, in_n), part.times, layers=part.layers)


def work(m: Module, a: Args) -> Work:
    """The whole matrix is built (one product an element) and multiplied."""
    return Work(2 * m.d_in * m.d_out, m.d_in * m.d_out, 1)


def forward(s: AdaptedLayer) -> Tensor:
    """LoKrLayer.forward: the Kronecker product is written out, scaled, and multiplied with the input."""
    t = s.t
    result = s.base()
    change = ops.scale(t, algebra.outer(t, _factor(s, 1), _factor(s, 2), s.n_w, "Kronecker product"), "LoKr weight")
    if s.drops("rank_dropout"):
        drop = t.alloc(s.d_out, F32, "dropped rows")
        change = algebra.dropped_into(t, change, drop)
        del drop
    x = ops.to(t, s.x, change.w)
    result = ops.add(t, result, s.linear(x, change), "output with adapter")
    return ops.to(t, result, s.w)


def _factor(s: AdaptedLayer, i: int) -> Tensor:
    """w1 or w2, whole or as a product."""
    if s.has(f"lokr_w{i}"):
        return s.p(f"lokr_w{i}")
    rows, columns = s.shape(f"lokr_w{i}_a")[0], s.shape(f"lokr_w{i}_b")[1]
    return algebra.mm(s.t, s.p(f"lokr_w{i}_a"), s.p(f"lokr_w{i}_b"), rows * columns, f"w{i}")


METHOD = Method(
    name="lokr",
    title="LoKr",
    cite="Yeh et al. 2024, arXiv 2309.14859; peft 0.21.2, tuners/lokr/layer.py",
    build=build,
    args={"r": 8, "rank_pattern": {}, "decompose_both": False, "decompose_factor": -1},
    accepts=f"{COMMON} exclude_modules alpha alpha_pattern rank_dropout module_dropout rank_dropout_scale "
    f"use_effective_conv2d init_weights",
    kinds=(LINEAR,),
    mapping="lokr",
    work=work,
    forward=forward,
)
