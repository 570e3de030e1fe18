"""Plots: every kind in the terminal, as SVG and as PNG; scales, ticks, clipping."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.chinchilla import laws, plots
from estimator.chinchilla.runs import exclude, read
from estimator.render.plots import Axis, Figure, Series, clip, draw, terminal
from tests.conftest import Ran

RUNS = str(Path(__file__).parents[1] / "data" / "chinchilla_runs.csv")
SVG = "{http://www.w3.org/2000/svg}"


def figures() -> list[tuple[str, Figure]]:
    law = laws.load("epoch")
    out = [(k, plots.of_law(k, law, 1e22, [(1e22, law.n_opt(1e22), "optimum")])) for k in plots.KINDS]
    kept, left, _ = exclude(read(RUNS), ["fewest-tokens-per-param=5"])
    return out + [(f"fit {k}", plots.of_fit(k, law, kept, left)) for k in plots.FIT_KINDS]


FIGURES = figures()


@pytest.mark.parametrize(("name", "figure"), FIGURES, ids=[n for n, _ in FIGURES])
def test_every_figure_draws(name: str, figure: Figure) -> None:
    text = terminal(figure)
    assert all(len(line) <= 80 for line in text.splitlines()), name
    assert any("⠀" < c <= "⣿" for c in text)
    svg = draw(figure, "a.svg")
    assert isinstance(svg, str)
    root = ET.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for path in root.iter(f"{SVG}path"):
        numbers = [
            float(n)
            for n in path.attrib["d"].replace("M", " ").replace("L", " ").replace("V", " ").replace("H", " ").split()
        ]
        assert all(0 <= n <= max(width, height) for n in numbers)
    for circle in root.iter(f"{SVG}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= width
        assert 0 <= float(circle.attrib["cy"]) <= height
    assert len(list(root.iter(f"{SVG}text"))) > 8
    assert draw(figure, "a.svg") == svg


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = draw(FIGURES[0][1], "a.png")
    assert isinstance(data, bytes)
    assert data.startswith(b"\x89PNG\r\n")
    assert data == draw(FIGURES[0][1], "a.png")


def test_png_without_matplotlib(llmcalc: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "x.png"
    ran = llmcalc("chinchilla", "--law", "epoch", "--output", str(out))
    assert (ran.code, ran.out) == (2, "")
    assert "llmcalc-estimator[plot]" in ran.err
    assert not out.exists()


def test_a_picture_goes_to_the_file_and_the_table_to_standard_output(
    llmcalc: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "x.svg"
    ran = llmcalc("chinchilla", "--law", "epoch", "--output", str(out), "--format", "json")
    assert ran.results["law"] == "epoch"
    assert out.read_text().startswith("<svg")
    assert ran.err.startswith("note: ")
    fitted = tmp_path / "fit.svg"
    some = tmp_path / "some.csv"
    some.write_text("\n".join(Path(RUNS).read_text().splitlines()[:80:2]) + "\n")
    llmcalc("chinchilla", "fit", str(some), "--bootstrap", 0, "--plot", "residuals", "--output", str(fitted))
    assert "Residuals of the fit" in fitted.read_text()


def test_the_terminal_shows_the_plot_below_the_table(llmcalc: Callable[..., Ran]) -> None:
    out = llmcalc("chinchilla --law epoch --compute 1e22 --plot contours").out
    assert out.index("Optimal parameters") < out.index("Iso-loss contours")
    assert "◆ optimum" in out
    assert "⣀" in out


def test_contours_are_lines_of_equal_loss_that_touch_the_frontier_at_their_least_compute() -> None:
    law = laws.load("epoch")
    figure = plots.contours(law, 1e20, 1e24)
    for series in figure.series:
        if not series.tag:
            continue
        losses = [law.loss(n, c / (6 * n)) for c, n in zip(series.x, series.y, strict=True)]
        assert max(losses) - min(losses) < 1e-6
        assert losses[0] == pytest.approx(float(series.tag), abs=0.006)
        assert min(series.x) == pytest.approx(law.c_of_params(series.y[series.x.index(min(series.x))]), rel=0.1)


def test_isoflop_minima_lie_on_the_dashed_line() -> None:
    law = laws.load("epoch")
    for series in plots.isoflop(law, 1e20, 1e24).series:
        if series.kind == "line":
            flops = float(series.label.split()[0])
            best = series.x[series.y.index(min(series.y))]
            assert best == pytest.approx(law.n_opt(flops), rel=0.1)


@given(st.floats(-40, 40), st.floats(0.01, 40))
def test_ticks_of_a_logarithmic_axis(low: float, decades: float) -> None:
    axis = Axis("x", 10**low, 10 ** (low + decades))
    ticks = axis.ticks()
    assert len(ticks) <= 12
    for value, label in ticks:
        assert -1e-6 <= axis.place(value) <= 1 + 1e-6
        assert label
    values = [v for v, _ in ticks]
    assert values == sorted(set(values))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_of_a_linear_axis(low: float, span: float) -> None:
    axis = Axis("x", low, low + span, log=False)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 9
    for value, label in ticks:
        assert float(label) == pytest.approx(value, abs=span / 100)


@given(st.lists(st.tuples(st.floats(-3, 4), st.floats(-3, 4)), min_size=2, max_size=12))
def test_clipping_keeps_to_the_frame(points: list[tuple[float, float]]) -> None:
    figure = Figure("", Axis("", 0, 1, log=False), Axis("", 0, 1, log=False))
    pieces = clip(figure, Series("", [x for x, _ in points], [y for _, y in points]))
    assert all(-1e-9 <= v <= 1 + 1e-9 for piece in pieces for point in piece for v in point)
    inside = [p for p in points if 0 < p[0] < 1 and 0 < p[1] < 1]
    drawn = [q for piece in pieces for q in piece]
    assert all(any(math.dist(p, q) < 1e-9 for q in drawn) for p in inside)
