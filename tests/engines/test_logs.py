"""Public start-up logs: with the pool given equal to the log's rounding; without it inside the bars."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from estimator.errors import InputError
from tests.engines.cases import asked, records

LOGS = records("logs")
# bars of the medians and of nine in ten
BARS = {
    "weights_bytes": (0.003, 0.02), "activation_bytes": (0.02, 0.10), "pool_bytes": (0.01, 0.04),
    "kv_tokens": (0.01, 0.04), "max_concurrency": (0.01, 0.04),
}  # fmt: skip


def known(r: dict[str, Any]) -> dict[str, Any] | None:
    """The answer, None where the model's family is missing."""
    try:
        return asked(r)
    except InputError as error:
        if "model_type" not in str(error):
            raise
        return None


@pytest.mark.parametrize("r", [r for r in LOGS if r["ask"] == "pool"], ids=lambda r: str(r["id"]))
def test_blocks_of_a_given_pool_equal_the_log(r: dict[str, Any]) -> None:
    got = known(r)
    for key, want in r["want"].items() if got is not None else ():
        assert got is not None
        within = abs(got[key] / want - 1) <= r["tolerance"].get(key, 0) + 1e-12
        assert within or f"{got[key]:.2f}" == f"{want:.2f}", key


def test_parts_of_the_budget_lie_inside_the_bars() -> None:
    errors: dict[str, list[float]] = {}
    for r in LOGS:
        if r["ask"] == "full" and r["engine"] == "vllm":
            got = asked(r)
            for key, want in r["want"].items():
                errors.setdefault(key, []).append(abs(got[key] / want - 1))
    for key, (median, most) in BARS.items():
        found = sorted(errors[key])
        assert statistics.median(found) <= median, key
        assert found[-(-9 * len(found) // 10) - 1] <= most, key
