"""``validate`` of runs under the Trainer and TRL, as ``measure_memory.py --stack`` wrote them on one H100."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DATA = json.loads(Path(__file__).with_name("own_stacks.json").read_text())


def test_measured_runs_agree(llmcalc, tmp_path):
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(DATA))
    found = llmcalc(f"validate {file} --format json")
    assert found.code == 0
    assert found.results["predicted"] == found.results["cases"] == 4
    assert found.results["error.worst"] <= 0.25
    assert found.results["error.median"] <= 0.1


@pytest.mark.parametrize(("change", "said"), [
    ({"options": {"batch_sise": 2}}, "no option 'batch_sise'"),
    ({"options": {"recipe": "trl"}}, "--recipe"),
    ({"options": ["--batch-size", "2"]}, "options must be an object"),
    ({"measured": {}}, "measured"),
])  # fmt: skip
def test_a_bad_case_is_one_line(llmcalc, tmp_path, change, said):
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(DATA | {"cases": [DATA["cases"][0] | change]}))
    found = llmcalc(f"validate {file}")
    text = found.out + found.err
    assert said in text
    assert "Traceback" not in text
