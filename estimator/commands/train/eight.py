"""A step whose linear layers multiply in 8 bits: what stays in 16, and what casting moves.

Only the layers' linear products run in FP8: the output matrix and attention stay in bf16 (Megatron-Core,
transformer_config.py: fp8_output_proj and fp8_dot_product_attention are off unless asked for). What goes into such a
product, forward and backward, is cast first by its own largest number (Transformer Engine's current scaling,
float8_tensor.py, Float8CurrentScalingQuantizer; torchao's dynamic scaling): one kernel reads it for the largest, one
reads it again and writes it twice, row by row and transposed, since Hopper's FP8 products take one layout only.
Weights are cast once a step, which is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from estimator.roofline import BF16, Accelerator
from estimator.stack.moves import Kernel
from estimator.trace import value_of
from estimator.work.product import HEAD, Product
from estimator.work.times import ELEMENTWISE, KERNELS, LAUNCH, MEMORY, How, Times, times

FP8 = "fp8"
CAST = 2 * BF16 + 2  # bytes an element: read twice, written twice in one byte
KERNELS_A_CAST = 2
SAID = "FP8: the layers' linear products, cast by their largest number; attention and the output matrix stay in bf16"


def step_in_fp8(ops: Sequence[Product | Kernel], device: Accelerator, wide: Accelerator, how: How) -> Times:
    """Seconds of all passes of ``ops``: linear layers on ``device``, which multiplies in FP8, all else on ``wide``."""
    narrow = [q for q in ops if in_fp8(q)]
    out = times([q for q in ops if not in_fp8(q)], wide, how)
    eight = times(narrow, device, how)
    for (what, bound), seconds in eight.parts.items():
        out.add(what, bound, seconds)
    elements, casts = cast_elements([q for q in ops if isinstance(q, Product)])
    out.add(ELEMENTWISE, MEMORY, device.stream(CAST * elements / float(value_of(how.shards))))
    out.add(KERNELS, LAUNCH, KERNELS_A_CAST * casts * device.fixed)
    out.host = out.host + eight.host + KERNELS_A_CAST * casts * device.launch_gradient
    out.ideal, out.flops, out.launches = out.ideal + eight.ideal, out.flops + eight.flops, out.launches + eight.launches
    return out


def in_fp8(q: Product | Kernel) -> bool:
    """Whether it is a product of a layer's weights."""
    return isinstance(q, Product) and q.operator in ("linear", "experts") and q.part != HEAD


def cast_elements(products: Sequence[Product]) -> tuple[float, float]:
    """(elements that are cast in a micro-batch, tensors): inputs, again where a layer is run again, and gradients.

    Products of one input that follow each other (queries, keys and values; gate and up) are one layer there, whose
    input is cast once.
    """
    elements = count = 0.0
    before: Product | None = None
    for q in products:
        if in_fp8(q):
            times_, rows = float(value_of(q.times)), float(value_of(q.m))
            one = before is None or (before.part, before.m, before.k, before.times) != (q.part, q.m, q.k, q.times)
            runs = times_ * (1 + int(q.recomputed)) if one else 0.0
            elements += runs * rows * float(value_of(q.k))
            count += runs
            if q.gradients:
                elements += times_ * rows * float(value_of(q.n))
                count += times_ if one else 0.0
        before = q if in_fp8(q) else None
    return elements, count
