"""RandLoRA: a full-rank update from frozen random bases shared by all targets, with trained diagonals.

Sources: Albert et al. 2025, arXiv 2502.00987; peft 0.21.2, tuners/randlora/model.py and layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import ceil_div, maximum, minimum
from estimator.peft.base import BUFFER, COMMON, CONV1D, LINEAR, Build, Method, PeftTensor
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import GradFn, Tape, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """lambda (r x n) and gamma (n x smaller side), n = ceil(smaller side / r); the bases A and B once."""
    r = b.rank = b.args.count("r")
    targets = b.match()
    widest_in, widest_out = maximum(*(m.d_in for m in targets)), maximum(*(m.d_out for m in targets))
    keep = b.args.flag("save_projection")
    holders = sum(m.times for m in targets)  # every layer's state dict shows the shared bases again
    small, large = minimum(widest_in, widest_out), maximum(widest_in, widest_out)
    bases_a, bases_b = r * small, large * ceil_div(small, r) * r
    for m in targets:
        side = minimum(m.d_in, m.d_out)
        n = ceil_div(side, r)
        yield PeftTensor(m.name, "randlora_lambda", (r, n), m.times)
        yield PeftTensor(m.name, "randlora_gamma", (n, side), m.times)
    yield PeftTensor("", "randlora_A", (r, 1, small), 1, BUFFER, keep, holders * bases_a if keep else 0)
    copies = holders * bases_b if keep else 0
    yield PeftTensor("", "randlora_B", (large, ceil_div(small, r), r), 1, BUFFER, keep, copies)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: the smaller base, scaled by both trained matrices, and the larger one."""
    t = s.t
    result = s.base()
    scales, sizes = s.p("randlora_lambda"), s.p("randlora_gamma")
    small = minimum(s.d_in, s.d_out)
    rank = scales.n
    large = s.d_out * s.d_in // small
    turned = s.part("randlora_B", large * rank)
    half = t.alloc(rank * small, scales.w, "lambda A")
    changed = t.emit("scaled base A", rank * small, scales.w, (scales, sizes), _unique_bwd, None, (scales.n, sizes.n))
    del half
    x = ops.to(t, s.x, changed.w)
    first, second = (changed, turned) if small == s.d_in else (turned, changed)
    made = s.linear(s.linear(s.dropped(x, "randlora_dropout"), first, s.rows * rank), second)
    made = ops.scale(t, made, "RandLoRA output")
    result = ops.add(t, result, made, "output with adapter")
    del made
    return ops.to(t, result, s.w)


def _unique_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """UniqueBaseGrad.backward: two sums over the base's numbers, each of a product of its size."""
    outs = []
    for n in node.extra:
        product = t.alloc(g.n, g.w, "gradient times the base")
        outs.append(t.alloc(n, g.w, "gradient of a scale"))
        del product
    return tuple(outs)


METHOD = Method(
    name="randlora",
    title="RandLoRA",
    cite="Albert et al. 2025, arXiv 2502.00987; peft 0.21.2, tuners/randlora/model.py",
    build=build,
    args={"r": 32, "save_projection": True, "bias": "none"},
    accepts=f"{COMMON} projection_prng_key sparse very_sparse randlora_dropout randlora_alpha "
    f"fan_in_fan_out init_weights",
    kinds=(LINEAR, CONV1D),
    mapping="randlora",
    forward=forward,
)
