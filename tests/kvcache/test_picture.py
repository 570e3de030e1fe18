"""The picture of ``kvcache --gpu --plot`` and its table are one answer."""

from __future__ import annotations

import pytest

from estimator import api
from estimator.units import KIBI


@pytest.mark.parametrize(("model", "gpu", "batch"), [("llama-3-8b", "rtx-4090", 1), ("gpt2", "t4", 4),
                                                     ("qwen2.5-7b", "a100-80gb", 2)])
def test_the_line_is_crossed_where_the_table_says(model, gpu, batch):
    report = api.kvcache(model, batch_size=batch, gpu=gpu)
    figure, found = report.figure(), report.results()
    curve, free = figure.series[0], found["free_bytes"]
    unit = KIBI**3 if "GiB" in figure.y.label else KIBI**2
    marked = next(s for s in figure.series if s.label.startswith("longest"))
    assert marked.x == [found["max_tokens"]]
    assert marked.y[0] * unit <= free
    over = [x for x, y in zip(curve.x, curve.y, strict=True) if y * unit > free]
    assert over
    assert min(over) > found["max_tokens"]
    assert max(x for x, y in zip(curve.x, curve.y, strict=True) if y * unit <= free) <= found["max_tokens"]
    assert figure.x.high > found["max_tokens"]
