"""LoHa: the elementwise product of two products of rank r.

Sources: Hyeon-Woo et al. 2022 (FedPara), arXiv 2108.06098; peft 0.21.2, tuners/loha/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, Args, Build, Method, Module, PeftTensor, Work
from estimator.peft.modules import CONVOLUTION, LINEAR
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import GradFn, Tape, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """w1_a, w2_a (d_out x r) and w1_b, w2_b (r x d_in)."""
    for part, r in b.ranked():
        d_in = part.d_in if part.kind == LINEAR else part.weights[0][1][1] * part.weights[0][1][2]
        for name in ("hada_w1", "hada_w2"):
            yield PeftTensor(part.name, f"{name}_a", (part.d_out, r), part.times, layers=part.layers)
            yield PeftTensor(part.name, f"{name}_b", (r, d_in), part.times, layers=part.layers)


def work(m: Module, a: Args) -> Work:
    """The whole matrix is built (two products, one elementwise) and multiplied."""
    return Work(2 * m.d_in * m.d_out, (4 * a["r"] + 1) * m.d_in * m.d_out, 1)


def forward(s: AdaptedLayer) -> Tensor:
    """LoHaLayer.forward: the change of the weight is written out, and multiplied with the input."""
    t = s.t
    result = s.base()
    factors = tuple([s.p(f"hada_w{i}_{side}") for i in (1, 2) for side in "ab"])
    one, two = (_product(s, *pair) for pair in (factors[:2], factors[2:]))
    both = t.alloc(s.n_w, one.w, "w1 * w2")
    w = one.w
    del one, two
    change = t.emit("LoHa weight", s.n_w, w, factors, _hada_bwd, None, [(f.n, f.w) for f in factors])
    del both
    if s.drops("rank_dropout"):
        drop = t.alloc(s.d_out, w, "dropped rows")
        change = algebra.dropped_into(t, change, drop)
        del drop
    x = ops.to(t, s.x, change.w)
    result = ops.add(t, result, s.linear(x, change), "output with adapter")
    return ops.to(t, result, s.w)


def _product(s: AdaptedLayer, a: Tensor, b: Tensor) -> Tensor:
    """w_a w_b inside of HadaWeight.forward: autocast converts both."""
    a, b = s.t.autocast(a), s.t.autocast(b)
    return s.t.alloc(s.n_w, a.w, "product of two factors")


def _hada_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """HadaWeight.backward: both products are computed again, one after the other, in the factors' format."""
    scaled = t.alloc(g.n, g.w, "gradient, scaled")
    outs: list[Tensor | None] = []
    last: Tensor | None = None
    for first in (0, 2):
        w = node.extra[first][1]
        other = t.alloc(g.n, w, "the other product")
        last = t.alloc(g.n, w, "gradient of a product")
        del other
        outs += [t.alloc(n, w, "gradient of a factor") for n, w in node.extra[first : first + 2]]
    del scaled, last
    return tuple(outs)


METHOD = Method(
    name="loha",
    title="LoHa",
    cite="Hyeon-Woo et al. 2022, arXiv 2108.06098; peft 0.21.2, tuners/loha/layer.py",
    build=build,
    args={"r": 8, "rank_pattern": {}},
    accepts=f"{COMMON} exclude_modules alpha alpha_pattern rank_dropout module_dropout use_effective_conv2d "
    f"init_weights",
    kinds=(LINEAR, CONVOLUTION),
    mapping="loha",
    work=work,
    forward=forward,
)
