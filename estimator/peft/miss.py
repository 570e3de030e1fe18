"""MiSS (which replaced Bone): one r x d_out matrix, applied to sums of d_in / r inputs.

Sources: Kang and Yin 2024, arXiv 2409.15371; peft 0.21.2, tuners/miss/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.ops import exact_div
from estimator.peft.base import COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """r x d_out; ``init_weights="bat"``: d_out/r blocks of r x r; ``"mini"``: r x mini_r."""
    a = b.args
    r = b.rank = a.count("r")
    init = a["init_weights"]
    for m in b.match():
        if r > m.d_in:
            raise InputError(f"--rank {int(r)}: MiSS needs a rank of at most d_in={int(m.d_in)} of {m.example!r}")
        shape = (r, m.d_out)
        if init == "bat":
            exact_div(m.d_in, r, f"--method miss: d_in of {m.leaf} over r")
            shape = (exact_div(m.d_out, r, f"--method miss: d_out of {m.leaf} over r"), r, r)  # type: ignore[assignment]
        elif init == "mini":
            mini = a.count("mini_r")
            exact_div(m.d_out, mini, f"--method miss: d_out of {m.leaf} over mini_r")
            shape = (r, mini)
        yield PeftTensor(m.name, "miss_block", shape, m.times)


def work(m: Module, a: Args) -> Work:
    """Sums of d_in inputs into r, then an r x d_out product."""
    return Work(m.d_in + 2 * a["r"] * m.d_out, 0, 1)


def forward(s: AdaptedLayer) -> Tensor:
    """MissLinear.forward: the input's shards are summed and multiplied; ``bat`` writes a weight out."""
    t, block = s.t, s.p("miss_block")
    if s.args["init_weights"] == "bat":
        weight = ops.copy(t, s.weight(), "weight, cloned")
        change = _bat(s, weight, block)
        weight = ops.add(t, weight, change, "weight with MiSS")
        bias = s.bias()
        x = ops.to(t, s.x, weight.w)
        result = s.in_place(x, weight, None if bias is None else ops.to(t, bias, weight.w))
        return ops.to(t, result, s.w)
    result = s.base()
    if s.packed:
        result = ops.copy(t, result, "output, cloned")
    r: Any = s.shape("miss_block")[0]
    whole: Tensor = block
    if s.args["init_weights"] == "mini":
        whole = algebra.repeated(t, block, r * s.d_out // block.n)
    x, over = s.x, s.d_in % r
    if over != 0:
        x = algebra.op(t, "padded input", s.rows * (s.d_in + r - over), x.w, (x,))
    x = ops.to(t, x, block.w)
    made = s.linear(algebra.op(t, "MiSS sums", s.rows * r, x.w, (s.dropped(x, "miss_dropout"),)), whole)
    result = ops.add(t, result, made, "output with adapter")
    del made
    return ops.to(t, result, s.w)


def _bat(s: AdaptedLayer, weight: Tensor, block: Tensor) -> Tensor:
    """get_delta_weight: W B + B, block by block."""
    t, n = s.t, s.n_w
    wide = ops.to(t, weight, block.w)
    halved = t.autocast(block)
    seen = t.autocast(wide)
    blocks = ops.copy(t, seen, "weight in blocks")
    made = algebra.mm(t, blocks, algebra.repeated(t, halved, n // block.n), n)
    del blocks, seen, halved
    made = ops.add(t, made, block)
    out = ops.copy(t, made, "MiSS weight")
    del made, wide
    return out


METHOD = Method(
    name="miss",
    title="MiSS",
    cite="Kang and Yin 2024, arXiv 2409.15371; peft 0.21.2, tuners/miss/layer.py",
    build=build,
    args={"r": 64, "mini_r": 1, "init_weights": True, "bias": "none"},
    accepts=f"{COMMON} exclude_modules miss_dropout",
    kinds=(LINEAR,),
    mapping="miss",
    work=work,
    forward=forward,
)
