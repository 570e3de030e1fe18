"""Adapter files that the peft project published: to the byte, header and all.

AdaMSS is left out: how many rows each of its clusters holds is not known before the weights are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from estimator import api

CASES = json.loads((Path(__file__).parents[1] / "data" / "adapter_files.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[c["file"] for c in CASES])
def test_file_is_what_peft_wrote(case: dict[str, Any]) -> None:
    given = {k: case[k] for k in ("method", "rank", "targets", "args") if case[k]}
    assert api.peft("llama-3.2-3b", **given).results()["checkpoint_bytes"] == case["bytes"]


def test_letters_have_no_header() -> None:
    report = api.peft("symbolic", method="lora", rank="R")
    assert "checkpoint_bytes" in report.results()
