"""Weights that bitsandbytes packs into 4 or 8 bits: which they are, and the tensors that hold one."""

from __future__ import annotations

from typing import Any

from estimator.inventory import CONV1D, LINEAR, Weight
from estimator.ops import ceil_div
from estimator.stack.tape import F32

CODE_TABLE = 16 * F32  # bitsandbytes: the 16 levels of NF4, a tensor a layer
NESTED_TABLE = 256 * F32  # and the 256 of the scales' own scales
INT8 = "int8"  # LLM.int8()


def is_packed(w: Weight, load: Any) -> bool:
    """Whether bitsandbytes packs this weight: matrices of linear layers that its scheme does not leave alone.

    load: a :class:`estimator.moments.Workload`
    """
    linear = w.role in (LINEAR, CONV1D) and not w.is_bias and len(w.shape) == 2
    return bool(load.quantization) and linear and w.name not in load.unpacked


def packed_bytes(n: Any, quantization: str, outputs: Any = 0) -> list[Any]:
    """The tensors of one matrix of ``n`` weights: codes, scales and NF4's look-up tables; LLM.int8() has a scale for
    each of its ``outputs``."""
    if quantization == INT8:
        return [n, outputs * F32]
    if quantization.endswith("-dq"):
        scales = ceil_div(n, 64)
        return [ceil_div(n, 2), scales, CODE_TABLE, F32, ceil_div(scales, 256) * F32, NESTED_TABLE]
    return [ceil_div(n, 2), ceil_div(n, 64) * F32, CODE_TABLE]
