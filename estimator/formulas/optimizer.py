"""Bytes that optimizers keep for each trained weight, as closed forms.

:mod:`estimator.optimizers` applies them tensor by tensor.
"""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.ops import ceil_div
from estimator.units import BYTES

FP32 = 4  # bytes
EIGHT_BIT_BLOCK = 256  # numbers that share one fp32 scale


@formula(unit=BYTES, cite="Kingma & Ba 2014, arXiv 1412.6980; torch/optim/adam.py (exp_avg, exp_avg_sq)")
def adam_state_bytes(n: Any, w: Any) -> Any:
    """Two moments of n numbers of w bytes."""
    return 2 * n * w


@formula(unit=BYTES, cite="torch/optim/sgd.py (momentum_buffer); Chen et al. 2023 (Lion), arXiv 2302.06675")
def momentum_state_bytes(n: Any, w: Any) -> Any:
    """One momentum of n numbers of w bytes."""
    return n * w


@formula(
    unit=BYTES,
    cite="Dettmers et al. 2022, arXiv 2110.02861; bitsandbytes optim/optimizer.py (min_8bit_size 4096)",
    assumes=("tensors of 4096 numbers and more",),
)
def adam8bit_state_bytes(n: Any) -> Any:
    """Two 8-bit moments, and one fp32 scale for each block of 256 in both."""
    return 2 * n + 2 * FP32 * ceil_div(n, EIGHT_BIT_BLOCK)


@formula(unit=BYTES, cite="Shazeer & Stern 2018, arXiv 1804.04235; torch/optim/_adafactor.py (row_var, col_var)")
def adafactor_state_bytes(rows: Any, columns: Any, w: Any) -> Any:
    """Second moments of the rows and of the columns of a matrix."""
    return (rows + columns) * w


@formula(unit=BYTES, cite="Rajbhandari et al. 2019, arXiv 1910.02054, section 3.1 (K = 12)")
def mixed_precision_state_bytes(n: Any) -> Any:
    """fp32 master weights and two fp32 moments: 12 bytes a parameter."""
    return 12 * n
