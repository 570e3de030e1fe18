"""C3A: block-circular convolutions; a block of b x b has b trained numbers.

Sources: Chen et al. 2024, arXiv 2407.19342; peft 0.21.2, tuners/c3a/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.ops import exact_div
from estimator.patterns import takes
from estimator.peft.base import COMMON, LINEAR, Build, Method, PeftTensor
from estimator.peft.targets import split_by
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import F32, GradFn, Tape, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """d_out/b x d_in/b blocks of b numbers."""
    a = b.args
    size, patterns = a.count("block_size"), a.patterns("block_size_pattern")

    def of(key: str) -> Any:
        return next((v for p, v in patterns.items() if takes(rf".*\.{p}$", key, "match")), patterns.get(key, size))

    for m in b.match():
        for part, block in split_by(m, of):
            rows = exact_div(part.d_out, block, f"--method c3a: d_out of {part.leaf} over block_size")
            columns = exact_div(part.d_in, block, f"--method c3a: d_in of {part.leaf} over block_size")
            yield PeftTensor(part.name, "c3a_kernel", (rows, columns, block), part.times, layers=part.layers)


def forward(s: AdaptedLayer) -> Tensor:
    """C3ALinear.forward: a circular convolution of blocks by Fourier transforms, in fp32."""
    t = s.t
    result = s.base()
    x = ops.to(t, s.x, F32)
    kernel = ops.to(t, s.p("c3a_kernel"), F32)
    inputs, weights = t.alloc(2 * x.n, F32, "transformed input"), t.alloc(2 * kernel.n, F32, "transformed kernel")
    sums = t.alloc(2 * s.n_out, F32, "transformed output")
    copies = t.alloc(2 * kernel.n, F32, "kernel by frequency"), t.alloc(2 * x.n, F32, "input by frequency")
    del copies, weights, inputs
    made = t.emit("complex output", 2 * s.n_out, F32, (x, kernel), _convolved_bwd, (x.st, kernel.st), (x.n, kernel.n))
    del sums
    made = ops.scale(t, Tensor(s.n_out, F32, made.st, made.node), "C3A output")
    return ops.to(t, ops.add_into(t, result, ops.to(t, made, result.w)), s.w)


def _convolved_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """BlockCircularConvolution.backward: the real parts of complex tensors."""
    inputs, kernel = node.extra
    seen = t.alloc(2 * g.n, F32, "transformed gradient")
    turned = t.alloc(2 * kernel, F32, "transformed kernel"), t.alloc(2 * kernel, F32, "kernel by frequency")
    by_frequency, sums = t.alloc(2 * inputs, F32, "by frequency"), t.alloc(2 * g.n, F32, "by frequency")
    del sums, turned
    own = t.alloc(2 * inputs, F32, "gradient of the input, complex")
    del by_frequency
    transformed = t.alloc(2 * inputs, F32, "transformed input"), t.alloc(2 * inputs, F32, "by frequency")
    products = t.alloc(2 * g.n, F32, "by frequency"), t.alloc(2 * kernel, F32, "transformed, complex")
    del products, transformed
    weights = t.alloc(2 * kernel, F32, "gradient of the kernel, complex")
    del seen
    made = Tensor(inputs, F32, own.st)
    made.view = True
    copied = t.alloc(kernel, F32, "gradient of the kernel")  # every second number of a complex tensor
    del weights
    return (made, copied)


METHOD = Method(
    name="c3a",
    title="C3A",
    cite="Chen et al. 2024, arXiv 2407.19342; peft 0.21.2, tuners/c3a/layer.py",
    build=build,
    args={"block_size": 256, "block_size_pattern": {}, "bias": "none"},
    accepts=f"{COMMON} init_weights",
    rank="",
    kinds=(LINEAR,),
    mapping="c3a",
    forward=forward,
)
