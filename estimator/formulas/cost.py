"""Money."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import GPU_HOURS, USD


@formula(unit=GPU_HOURS, cite="hours of each of N accelerators")
def gpu_hours(hours: Any, N: Any) -> Any:
    """Accelerator-hours of N accelerators."""
    return hours * N


@formula(unit=USD, cite="DeepSeek-AI 2024, DeepSeek-V3, arXiv 2412.19437, table 1")
def rental_usd(H: Any, price: Any) -> Any:
    """H accelerator-hours at ``price`` USD each."""
    return H * price
