"""Pictures of the questions: each says what the table beside it says, in a terminal and in a file."""

from __future__ import annotations

import csv

import pytest

from estimator import api
from estimator.presets import load_gpu
from estimator.render.plots import Axis, Figure, Series
from estimator.render.plots_svg import svg
from estimator.render.plots_terminal import braille
from estimator.report import Cell, Table
from estimator.roofline import dense_peak
from estimator.units import KIBI

GIB = KIBI**3


def series(figure, kind):
    return [s for s in figure.series if s.kind == kind]


@pytest.mark.parametrize("options", [
    {"seq_len": 2048, "gpu": "h100-sxm"}, {"recipe": "megatron", "gpus": 64}, {"recipe": "deepspeed"},
    {"recipe": "torch-fp32", "optimizer": "lion", "stage": 2},
])  # fmt: skip
def test_bars_of_stages_are_the_tables_totals(options):
    report = api.zero("llama-3-8b", **options)
    figure, found = report.figure(), report.results()
    stages = [name.removeprefix("stage ") for name in figure.x.names]
    tops = [max(s.y[i] for s in series(figure, "bar")) for i in range(len(stages))]
    for stage, top in zip(stages, tops, strict=True):
        key = next(k for k in (f"stage{stage}.total_bytes", f"stage{stage}.memory_bytes") if k in found)
        assert round(top * GIB) == found[key]
    lines = [round(s.y[0] * GIB) for s in series(figure, "dash")]
    assert lines == ([found["have_bytes"]] if "have_bytes" in found else [])


def test_the_roofline_is_the_tables():
    report = api.flops("llama-3-8b", mode="decode", context=4096, gpu="h100-sxm")
    figure = report.figure()
    table = next(x for x in report.body if isinstance(x, Table) and x.title.startswith("Roofline"))
    drawn = [(s.label, s.x[0], s.y[0]) for s in series(figure, "dot")]
    assert drawn == [(r[0], r[3].value, r[4].value) for r in table.rows]
    spec, roof = load_gpu("h100-sxm"), series(figure, "line")[0]
    assert (roof.x[1], roof.y[1]) == (roof.y[1] / spec.bandwidth_bytes_s, float(dense_peak(spec, "bf16")))
    for _, intensity, rate in drawn:  # each part is on the roof
        assert rate == min(roof.y[1], intensity * spec.bandwidth_bytes_s)


def test_latency_against_throughput_is_the_table_of_batches():
    report = api.infer("llama-3-8b", gpu="h100-sxm")
    table = next(x for x in report.body if isinstance(x, Table) and x.title == "By batch")
    shown = {(r[3].value, 1e3 * r[2].value, r[0]) for r in table.rows if isinstance(r[3], Cell) and r[-1] != "no"}
    assert {(s.x[0], s.y[0], s.tag) for s in series(report.figure(), "dot")} == shown


def test_a_servers_curve_passes_through_its_answer():
    report = api.infer("llama-3-8b", gpu="h100-sxm", engine="vllm", batch_size=8)
    found, points = report.results(), {s.tag: (s.x[0], s.y[0]) for s in series(report.figure(), "dot")}
    assert points["8"] == (found["tokens_per_second"], 1e3 * found["itl_seconds"])


def test_a_plans_border_is_its_first_rows():
    from estimator.commands.plan.question import Tune
    from estimator.commands.plan.tune import tune
    from estimator.questions import ask

    report = tune(ask(Tune, "gpt2", {"gpu": "t4,h100-sxm", "gpus": "1,2"}))
    best = [(s.x[0], s.y[0]) for s in series(report.figure(), "dot")]
    assert best == [(r["usd"], r["hours"]) for r in report.rows[: len(best)]]
    beaten = [p for s in series(report.figure(), "ring") for p in zip(s.x, s.y, strict=True)]
    assert len(best) + len(beaten) == report.results()["found"]
    assert all(any(usd <= x and hours <= y for usd, hours in best) for x, y in beaten)


def test_a_sweeps_lines_are_its_rows(llmcalc, tmp_path):
    asked = "sweep memory gpt2 --mode training --method full,lora --seq-len 256,512,1k --gpu t4"
    asked += " --keys need_bytes,have_bytes"
    rows = list(csv.DictReader(llmcalc(asked).out.splitlines()))
    text = llmcalc(f"{asked} --plot").out
    assert "a full" in text
    assert "b lora" in text
    path = tmp_path / "x.svg"
    assert llmcalc(f"{asked} --output {path}").out == ""
    assert {"full", "lora", "have_bytes"} <= set(path.read_text().replace("<", ">").split(">"))
    from estimator.sweep.grid import SweptAxis
    from estimator.sweep.picture import rows_drawn

    header = list(rows[0])
    chunk = {k: [r[k] if k == "method" else int(r[k]) for r in rows] for k in header}
    axes = [SweptAxis("method", ["full", "lora"]), SweptAxis("seq_len", [256, 512, 1024])]
    figure = rows_drawn("", axes, header, ["need_bytes", "have_bytes"], iter([chunk]))
    unit = GIB if "GiB" in figure.y.label else KIBI**2
    for name in ("full", "lora"):
        line = next(s for s in figure.series if s.label == name)
        assert [(x, round(y * unit)) for x, y in zip(line.x, line.y, strict=True)] == [
            (int(r["seq_len"]), int(r["need_bytes"])) for r in rows if r["method"] == name
        ]
    once = next(s for s in figure.series if s.label == "have_bytes")
    assert {round(y * unit) for y in once.y} == {int(rows[0]["have_bytes"])}


def test_a_way_without_a_price_takes_no_ones_place_on_the_border():
    from estimator.commands.plan.figure import PlanAxes, points
    from estimator.commands.plan.search import Way, _border, pareto

    def way(gpu, hours, usd):
        return Way("", "", gpu, 1, "yes", 1, hours, usd, 1.0)

    ordered = pareto([way("cheap", 9.0, 1.0), way("beaten", 10.0, 2.0), way("unpriced", 1.0, None)])
    figure = points("", ordered, _border(ordered), PlanAxes())
    assert {s.label: s.kind for s in figure.series} == {"1 x cheap": "dot", "beaten in both": "ring"}


@pytest.mark.parametrize(("line", "said"), [
    ("sweep memory gpt2 --seq-len 1k:2k:x2 --plot", "--plot needs a size to draw against and what to draw"),
    ("sweep memory gpt2 --method lora,qlora --keys weights_bytes --plot", "--plot needs a size"),
    ("sweep memory gpt2 --seq-len 1k,2k --gpu t4 --keys fits --plot", "--plot: fits is no number: 'yes'"),
    ("sweep memory gpt2 --seq-len 1k,2k --batch-size 1:40 --keys peak.allocated_bytes --plot", ""),
    ("sweep memory gpt2 --seq-len 1:40 --batch-size 1:30 --keys peak.allocated_bytes --plot", "30 lines are too many"),
    ("zero --params P --gpus N --plot", "--plot needs a model of known sizes"),
    ("flops gpt2 --plot", "--plot: this question has no picture: llmcalc docs plots"),
    ("flops gpt2 --output x.png", "--output x.png: flops has no picture to draw; name a text file"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_said(llmcalc, line, said):
    ran = llmcalc(line)
    if said:
        assert ran.code == 2
        assert said in ran.err
        assert len(ran.err.splitlines()) <= 2
    else:
        assert ran.code == 0


def test_an_area_is_drawn_between_its_edges():
    axes = Axis("x", 1, 3, False), Axis("y", 0, 4, False)
    lower = Series("below", [1, 2, 3], [1, 3, 1], "area", 0)
    upper = Series("above", [1, 2, 3], [2, 4, 1], "area", 1, base=[1, 3, 1])
    figure = Figure("areas", *axes, (lower, upper))
    rows = braille(figure, 41, 8).split("\n")[1:9]
    middle = "".join(row[11 + 15] for row in rows)
    assert middle == "▓▓██████"
    assert '<polygon points="' in svg(figure)
