"""Fits: the Chinchilla runs against an independent fit and Epoch AI's, made-up runs, bad files.

``tests/data/chinchilla_runs.csv``: 245 runs read off Figure 4 of Hoffmann et al. 2022 by Epoch AI (Besiroglu et al.
2024, github.com/epoch-research/analyzing-chinchilla).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from estimator.chinchilla import fit as engine
from estimator.chinchilla import laws, runs
from estimator.errors import InputError
from tests.conftest import Ran

RUNS = str(Path(__file__).parents[1] / "data" / "chinchilla_runs.csv")
FEWEST = "fewest-tokens-per-param=5"


def test_the_chinchilla_runs(llmcalc: Callable[..., Ran]) -> None:
    begin = time.process_time()
    got = llmcalc("chinchilla", "fit", RUNS, "--exclude", FEWEST, "--bootstrap", 0, "--format", "json").results
    assert time.process_time() - begin < 20
    assert got["E"] == pytest.approx(1.8172, rel=0.002)
    assert got["alpha"] == pytest.approx(0.3473, rel=0.01)
    assert got["beta"] == pytest.approx(0.3672, rel=0.01)
    assert got["A"] == pytest.approx(478, rel=0.05)
    assert got["B"] == pytest.approx(2143, rel=0.05)
    assert got["runs"] == 240
    assert got["A.low"] is None


@pytest.mark.thorough
def test_epochs_coefficients_lie_inside_the_intervals(llmcalc: Callable[..., Ran]) -> None:
    line = ("chinchilla", "fit", RUNS, "--exclude", FEWEST, "--bootstrap", 200, "--format", "json")
    got = llmcalc(*line).results
    for key, value in (("A", 482.0), ("B", 2085.4), ("E", 1.8169), ("alpha", 0.3478), ("beta", 0.3659)):
        assert got[f"{key}.low"] < value < got[f"{key}.high"]
        assert got[f"{key}.low"] < got[key] < got[f"{key}.high"]
    assert llmcalc(*line).results == got  # the seed decides
    assert llmcalc(*line, "--seed", 7).results["A.low"] != got["A.low"]


def test_all_runs_give_epochs_fit_with_outliers() -> None:
    """Their notebook's fit without exclusion: a, b, e 6.138, 9.436, 0.63412782, alpha 0.34536, beta 0.45189."""
    found = engine.fit(runs.read(RUNS), count=12)
    assert found.values["beta"] == pytest.approx(0.45189, rel=0.01)
    assert found.values["alpha"] == pytest.approx(0.34536, rel=0.02)
    assert found.values["E"] == pytest.approx(math.exp(0.63412782), rel=0.005)


def made_up(count: int, law: str = "E=1.7,A=400,B=1500,alpha=0.33,beta=0.35") -> list[runs.TrainingRun]:
    rng = np.random.default_rng(3)
    p = laws.own(law).parametric
    assert p is not None
    n, d = 10 ** rng.uniform(7, 10, count), 10 ** rng.uniform(9, 12, count)
    pairs = enumerate(zip(n.tolist(), d.tolist(), strict=True))
    return [runs.TrainingRun(a, b, float(p.loss(a, b)), i) for i, (a, b) in pairs]


@pytest.mark.parametrize(
    "law",
    [
        "E=1.7,A=400,B=1500,alpha=0.33,beta=0.35",
        "E=2.4,A=90,B=30000,alpha=0.25,beta=0.5",
        "E=0.9,A=3000,B=200,alpha=0.5,beta=0.22",
    ],
)
def test_made_up_runs_are_recovered(law: str) -> None:
    found = engine.fit(made_up(40, law), count=10).values
    want = laws.own(law).parametric
    for key in engine.NAMES:
        assert found[key] == pytest.approx(getattr(want, key), rel=2e-3)


def test_many_runs_take_the_two_stage_way() -> None:
    found = engine.fit(made_up(2500), count=8).values
    assert found["A"] == pytest.approx(400, rel=1e-3)


def test_the_gradient_is_the_derivative() -> None:
    n, d, y = engine._data(made_up(20))
    weight = np.linspace(0.5, 2, 20)
    theta = np.array([5.9, 7.2, 0.5, 0.34, 0.36])
    value, gradient = engine.objective(theta, n, d, y, weight)
    for i in range(5):
        step = np.zeros(5)
        step[i] = 1e-6
        slope = (
            engine.objective(theta + step, n, d, y, weight)[0] - engine.objective(theta - step, n, d, y, weight)[0]
        ) / 2e-6
        assert gradient[i] == pytest.approx(slope, rel=1e-5)
    assert value > 0


def test_the_grid_is_the_papers() -> None:
    n, d, y = engine._data(made_up(10))
    assert len(engine.starts(n, d, y, 4500)) == 4500


def test_weights_are_counts() -> None:
    """A run drawn twice weighs as much as two equal runs."""
    some = made_up(12)
    n, d, y = engine._data(some)
    theta = np.array([5.0, 7.0, 0.4, 0.3, 0.36])
    weight = np.ones(12)
    weight[3] = 2
    doubled = engine._data([*some, some[3]])
    one, two = engine.objective(theta, n, d, y, weight), engine.objective(theta, *doubled, np.ones(13))
    assert one[0] == pytest.approx(two[0])
    assert one[1] == pytest.approx(two[1])


def test_exclusions() -> None:
    every = runs.read(RUNS)
    kept, left, said = runs.exclude(every, [FEWEST])
    assert (len(kept), len(left)) == (240, 5)
    assert max(r.D / r.N for r in left) < min(r.D / r.N for r in kept)
    assert said == ["5 runs left out: fewest tokens per param"]
    kept, left, _ = runs.exclude(every, ["highest-loss=3", "lines=2,100"])
    assert len(kept) == 245 - len(left)
    assert {2, 100} <= {r.line for r in left}
    for bad in ("highest-loss", "highest-loss=x", "loss=3", "lines=1", "lines=9999", "", "highest-loss=-1"):
        with pytest.raises(InputError):
            runs.exclude(every, [bad])


def test_tokens_and_flops_are_the_same_runs(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("N;Training Tokens;loss\n" + "".join(f"{r.N!r};{r.D!r};{r.loss!r}\n" for r in made_up(9)))
    assert [r.D for r in runs.read(str(file))] == [r.D for r in made_up(9)]


GOOD = "".join(f"{1e7 * 3**i:g},{1e9 * 2**i:g},{4 - 0.2 * i}\n" for i in range(8))
BAD = {
    "no columns": "a,b\n1,2\n",
    "no loss": "params,tokens\n1,2\n",
    "no tokens": "params,loss\n1,2\n",
    "empty": "",
    "only a header": "params,tokens,loss\n",
    "text": "params,tokens,loss\n" + GOOD + "1e9,many,3\n",
    "nan": "params,tokens,loss\n" + GOOD + "1e9,1e9,nan\n",
    "infinite": "params,tokens,loss\n" + GOOD + "1e9,inf,3\n",
    "negative": "params,tokens,loss\n" + GOOD + "-1e9,1e9,3\n",
    "zero": "params,tokens,loss\n" + GOOD + "1e9,0,3\n",
    "missing cell": "params,tokens,loss\n" + GOOD + "1e9,1e9\n",
    "few": "params,tokens,loss\n" + "".join(GOOD.splitlines(keepends=True)[:5]),
    "all equal": "params,tokens,loss\n" + "1e9,2e10,3\n" * 9,
    "one loss": "params,tokens,loss\n" + "".join(f"{i}e9,{i}e10,3\n" for i in range(1, 9)),
    "one size": "params,tokens,loss\n" + "".join(f"1e9,{i}e10,{4 - i / 9}\n" for i in range(1, 9)),
    "open quote": 'params,tokens,loss\n"1,2,3\n',
    "too many": "params,tokens,loss\n" + "1e9,1e9,3\n" * (runs.MAX_RUNS + 1),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_one_line_and_write_nothing(llmcalc: Callable[..., Ran], tmp_path: Path, what: str) -> None:
    file, out = tmp_path / "runs.csv", tmp_path / "out.svg"
    file.write_text(BAD[what])
    ran = llmcalc("chinchilla", "fit", str(file), "--output", str(out))
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert not out.exists()


def test_files_that_are_none(llmcalc: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name in (str(tmp_path), str(tmp_path / "missing.csv"), str(tmp_path / "binary.csv"), "/dev/zero"):
        ran = llmcalc("chinchilla", "fit", name)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    "argv",
    [
        ("--bootstrap", -1),
        ("--bootstrap", 1),
        ("--seed", -1),
        ("--compute", 0),
        ("--plot", "pie"),
        ("--exclude", "x=1"),
        ("--exclude", "highest-loss=240"),
    ],
)
def test_bad_options(llmcalc: Callable[..., Ran], argv: tuple[str, object]) -> None:
    ran = llmcalc("chinchilla", "fit", RUNS, *argv)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)


def test_a_law_without_an_optimum(llmcalc, tmp_path):
    """Its best fit has A = 6e307: no tokens are optimal, whose loss is a division by zero."""
    path = tmp_path / "runs.csv"
    path.write_text(
        "params,train_flop,loss\n552482124.6,2.762240969e+19,2.74499129\n1592874407,1.857685955e+20,2.494014512\n"
        "1793812740,9.527952889e+20,2.303640403\n2297743486,2.404494088e+20,2.46430085\n"
        "2282805960,4.487247245e+20,2.377267094\n1265593129,9.389745074e+18,3.131833845\n"
        "2006673381,9.771731144e+18,3.44699543\n"
    )
    ran = llmcalc("chinchilla", "fit", path, "--bootstrap", "0")
    assert (ran.code, "these runs determine no law" in ran.err) == (2, True)


def test_noise_determines_no_law() -> None:
    rng = np.random.default_rng(1)
    noise = [
        runs.TrainingRun(float(10 ** rng.uniform(7, 10)), float(10 ** rng.uniform(9, 12)), float(rng.uniform(2, 4)), i)
        for i in range(6)
    ]
    try:
        found = engine.fit(noise)
    except InputError:
        return
    assert all(math.isfinite(v) for v in found.values.values())


def test_without_scipy_the_extra_is_named(llmcalc: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    import estimator.chinchilla

    for name in [m for m in sys.modules if m == "scipy" or m.startswith("scipy.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.delitem(sys.modules, "estimator.chinchilla.fit")
    monkeypatch.delattr(estimator.chinchilla, "fit", raising=False)
    ran = llmcalc("chinchilla", "fit", RUNS)
    assert ran.code == 2
    assert ran.err == "error: chinchilla fit needs scipy: pip install 'llmcalc-estimator[fit]'\n"


def test_a_fit_can_be_used_as_a_law(llmcalc: Callable[..., Ran], tmp_path: Path) -> None:
    report = tmp_path / "fit.json"
    llmcalc(
        "chinchilla", "fit", RUNS, "--exclude", FEWEST, "--bootstrap", 0, "--format", "json", "--output", str(report)
    )
    got = llmcalc("chinchilla", "--compute", "5.76e23", "--coefficients", str(report), "--format", "json").results
    assert got["tokens_per_param"] == pytest.approx(17.92, rel=0.01)
