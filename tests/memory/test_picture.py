"""The moments of a step as a picture: a stacked area that ends where the table's moments do."""

from __future__ import annotations

from itertools import pairwise

import pytest

from estimator import api
from estimator.units import KIBI


@pytest.mark.parametrize(("model", "options"), [
    ("gpt2", {"mode": "training", "seq_len": 512, "gpu": "t4"}),
    ("llama-3-8b", {"mode": "training", "method": "lora", "gpu": "rtx-4090"}),
    ("llama-3-8b", {"seq_len": "4k"}),
])  # fmt: skip
def test_the_area_is_as_high_as_each_moment(model, options):
    report = api.memory(model, **options)
    figure, found = report.figure(), report.results()
    unit = KIBI**3 if "GiB" in figure.y.label else KIBI**2
    areas = [s for s in figure.series if s.kind == "area"]
    tops = [max(s.y[i] for s in areas) * unit for i in range(len(figure.x.names))]
    moments = [v for k, v in found.items() if k.startswith("moments.")]
    assert sorted(map(round, tops)) == sorted(moments)
    peak = next(s for s in figure.series if s.label.startswith("peak"))
    assert round(peak.y[0] * unit) == found["peak.allocated_bytes"]
    for below, above in pairwise(areas):
        assert list(above.base) == list(below.y)
    line = [s for s in figure.series if s.kind == "dash"]
    assert [round(s.y[0] * unit) for s in line] == ([found["have_bytes"]] if "have_bytes" in found else [])


def test_the_picture_is_drawn(llmcalc, tmp_path):
    text = llmcalc("memory gpt2 --mode training --plot").out
    assert "█ " in text
    assert "moments of the step" in text
    path = tmp_path / "x.svg"
    assert llmcalc(f"memory gpt2 --mode training --output {path}").code == 0
    assert path.read_text().count("<polygon") > 4
