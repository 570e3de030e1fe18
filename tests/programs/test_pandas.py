"""A report's results as a DataFrame of a real pandas."""

from __future__ import annotations

import pytest

from estimator import api
from estimator.commands.plan.question import Tune
from estimator.commands.plan.tune import tune
from estimator.questions import ask

pytestmark = pytest.mark.programs


@pytest.mark.parametrize(("question", "options"), [
    ("memory", {"mode": "training", "gpu": "t4"}), ("kvcache", {"seq_len": "1k"}), ("flops", {"gpu": "h100-sxm"}),
    ("peft", {"method": "lora"}), ("zero", {"gpus": 8}), ("infer", {}),
])  # fmt: skip
def test_a_row_a_result(question, options):
    report = getattr(api, question)("gpt2", **options)
    frame = report.to_pandas()
    assert list(frame.columns) == ["key", "value", "unit", "label"]
    assert dict(zip(frame["key"], frame["value"], strict=True)) == report.results()
    whole = {n.key: (n.unit.name, n.label) for n in report.nodes() if n.key and n.unit is not None}
    found = {k: (u, label) for k, u, label in zip(frame["key"], frame["unit"], frame["label"], strict=True) if u}
    assert found == {k: v for k, v in whole.items() if k in found}
    assert set(whole) & set(frame["key"]) == set(found)


def test_integers_stay_whole():
    frame = api.memory("llama-3.1-405b").to_pandas()
    value = frame.set_index("key")["value"]["weights_bytes"]
    assert isinstance(value, int)
    assert value == api.memory("llama-3.1-405b").results()["weights_bytes"]


def test_a_plan_has_a_row_a_way():
    report = tune(ask(Tune, "gpt2", {"gpu": "t4,h100-sxm", "gpus": "1,2"}))
    frame = report.to_pandas()
    assert type(frame).__module__.startswith("pandas")
    assert frame.to_dict("records") == [dict(row) for row in report.rows]
    assert frame.sort_values("usd").iloc[0]["usd"] == min(row["usd"] for row in report.rows)
