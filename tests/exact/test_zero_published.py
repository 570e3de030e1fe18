"""Published figures of ZeRO, ZeRO-Infinity and DeepSpeed's estimators, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimator.cli import run

ROWS = json.loads((Path(__file__).parents[1] / "data" / "zero_published.json").read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r["id"])
def test_published(row, capsys):
    assert run(["zero", *row["argv"].split(), "--format", "json"]) == 0
    got = json.loads(capsys.readouterr().out)["results"][row["key"]]
    assert got / row["scale"] == pytest.approx(row["value"], abs=row["tol"] * (1 + 1e-9) + 1e-12)
