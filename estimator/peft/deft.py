"""DEFT: a trained direction P whose part of the weight is replaced by P R.

Source: peft 0.21.2, tuners/deft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import minimum
from estimator.peft.base import COMMON, CONV1D, LINEAR, Build, Method, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import F32, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """P (d_out x r), and R (r x d_in) unless ``para``; r is at most d_out."""
    b.rank = b.args.count("r")
    for m in b.match():
        r = minimum(b.rank, m.d_out)
        yield PeftTensor(m.name, "deft_P", (m.d_out, r), m.times)
        if not b.args.flag("para"):
            yield PeftTensor(m.name, "deft_R", (r, m.d_in), m.times)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: what P spans is taken from the layer's product, and P R x put in its place, all in fp32."""
    t = s.t
    base = s.base()
    result = ops.to(t, base, F32)
    bias = s.bias()
    product = result if bias is None else ops.sub(t, result, ops.to(t, bias, F32))
    x = ops.to(t, s.x, F32)
    p = s.view("deft_P") if s.width == F32 else ops.to(t, s.p("deft_P"), F32)
    n = s.rows * s.shape("deft_P")[1]
    q, right = (p, ops.relu(t, p)) if s.args["decomposition_method"] != "qr" else (_factored(s, p),) * 2
    del p
    correction = s.linear(s.linear(product, right, n), q)
    result = ops.sub(t, result, correction)
    if s.has("deft_R"):
        r = ops.scale(t, ops.to(t, s.p("deft_R"), F32), "R, scaled")
        dropped = s.dropped(x, "deft_dropout")
        result = ops.add(t, result, s.linear(s.linear(dropped, r, n), q), "output with DEFT")
    return ops.to(t, result, s.w)


def _factored(s: AdaptedLayer, p: Tensor) -> Tensor:
    """torch.linalg.qr, without its workspace."""
    side = s.shape("deft_P")[1]
    small = s.t.alloc(side * side, F32, "R of QR")
    return algebra.op(s.t, "Q of QR", p.n, F32, (p,), (small,), back=((p.n, F32),), result=True)


METHOD = Method(
    name="deft",
    title="DEFT",
    cite="peft 0.21.2, tuners/deft/layer.py",
    build=build,
    args={"r": 8, "para": False, "bias": "none"},
    accepts=f"{COMMON} exclude_modules decomposition_method init_scale alpha fan_in_fan_out deft_dropout init_weights",
    kinds=(LINEAR, CONV1D),
    mapping="deft",
    forward=forward,
)
