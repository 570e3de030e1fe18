"""The shipped scenarios: every number of the homework, and published training runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimator.commands.fermi.report import fermi
from estimator.fermi.scenario import load
from estimator.presets import ids

DATA = Path(__file__).resolve().parents[1] / "data"
HOMEWORK = json.loads((DATA / "fermi_homework.json").read_text())
PUBLISHED = json.loads((DATA / "fermi_published.json").read_text())


@pytest.mark.parametrize("row", HOMEWORK, ids=lambda r: f"{r['id']}-{r['quantity']}")
def test_homework(row):
    assert fermi(row["scenario"], count=0).results()[row["quantity"]] == pytest.approx(row["value"], rel=row["rel_tol"])


@pytest.mark.parametrize("row", PUBLISHED["table_d1"], ids=lambda r: r["id"])
def test_gpt3_table_d1(row):
    """Training FLOP and petaFLOP-days of Brown et al. 2020, Table D.1."""
    values = {
        "parameters": str(row["parameters"]),
        "tokens": str(row["tokens"]),
        "flops_each": str(row["multiplier"]),
    }
    got = fermi("gpt3-cost", values, count=0).results()[row["quantity"]]
    assert got == pytest.approx(row["value"], rel=row["tol_rel"])


@pytest.mark.parametrize("row", PUBLISHED["runs"], ids=lambda r: r["id"])
def test_published_energy_and_carbon(row):
    """LLaMA, Llama 2 and 3, BLOOM, StarCoder, LaMDA, and Patterson et al. 2021: GPU-hours to MWh to tCO2."""
    keys = ("gpu_hours", "power", "pue", "carbon_intensity", "energy")
    got = fermi("training-carbon", {k: str(row[k]) for k in keys if k in row}, count=0).results()[row["quantity"]]
    close = {"rel": row["tol_rel"]} if "tol_rel" in row else {"abs": row["tol_abs"], "rel": 0}
    assert got == pytest.approx(row["value"], **close)


def test_deepseek_v3():
    """DeepSeek-V3's Table 1 and section 1."""
    got = fermi("deepseek-v3-cost").results()
    assert got["gpu_hours"] == 2_788_000
    assert got["usd"] == 5_576_000
    assert got["pretraining_usd"] == 5_328_000
    assert got["hours_per_trillion"] == pytest.approx(180_000, abs=500)
    assert got["days_per_trillion"] == pytest.approx(3.7, abs=0.05)


def test_llama_65b_energy():
    got = fermi("training-carbon").results()
    assert got["energy"] == pytest.approx(449, abs=1)
    assert got["emissions"] == pytest.approx(173, abs=0.6)
    assert got["gpu_hours_from_speed"] == pytest.approx(1_022_362, rel=0.002)
    assert got["days_from_speed"] == pytest.approx(21, abs=0.5)


def test_only_what_leads_to_an_answer():
    got = fermi("gpt6", only=["books"], count=0).results()
    assert set(got) == {"text_tokens", "tokens_per_word", "words_per_page", "pages_per_book", "words", "books"}


def test_switching_the_homework_to_the_data_sheet():
    got = fermi("gpt6", {"gpu_memory": "gpu:h200.memory", "speed": "gpu:h200.bf16"}, count=0).results()
    assert got["gpus"] == got["gpus_sheet"] == pytest.approx(2e14 / 141e9)
    assert got["usd_30pct"] == pytest.approx(got["usd_sheet"])


def test_another_gpu():
    got = fermi("pretrain-70b", gpu="a100-80gb", count=0).results()
    assert got["speed"] == 312
    assert got["power"] == 400


@pytest.mark.parametrize("name", ids("fermi"))
def test_every_scenario(name):
    scenario = load(name)
    report = fermi(name, count=200, derive=False)
    assert set(scenario.quantities) <= set(report.results())
    assert scenario.title
    for q in scenario.quantities.values():
        assert q.formula is not None or q.source or q.note, f"{q.name} has no source"


@pytest.mark.parametrize("name", ids("fermi"))
def test_every_derivation_gives_its_value(name, llmcalc):
    """The renderer refuses a derivation that differs from its number; its letters are the chain's own quantities."""
    import sympy

    found = llmcalc("fermi", name, "--samples", 0, "--derive", "--format", "json").json
    results = found["results"]
    assert found["derivations"]
    for d in found["derivations"]:
        expr = sympy.sympify(d["expression"], locals={k: sympy.Symbol(k) for k in results})
        got = expr.subs({sympy.Symbol(k): v for k, v in results.items()})
        assert float(got) == pytest.approx(results[d["key"]], rel=1e-9)


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown", "latex"])
@pytest.mark.parametrize("name", ["gpt6", "carbon"])
def test_formats(name, format, llmcalc):
    ran = llmcalc("fermi", name, "--samples", 100, "--format", format)
    assert ran.code == 0
    assert ran.out.strip()


def test_listing_and_template(llmcalc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(name in llmcalc("fermi --list").out for name in ids("fermi"))
    assert llmcalc("fermi new piano.toml").code == 0
    assert llmcalc("fermi piano.toml --samples 100 --format json").results["usd.p5"] > 0
    again = llmcalc("fermi new piano.toml")
    assert (again.code, again.err.count("\n")) == (2, 1)


def test_the_documented_chain_of_ten_lines(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "commands" / "fermi.md").read_text()
    path = tmp_path / "piano.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0])
    got = fermi(str(path), count=500).results()
    assert got["tuners.p5"] < got["tuners"] < got["tuners.p95"]


def test_latex_escapes_units():
    from estimator.render import to_text

    text = to_text(fermi("gpt6", only=["flops"], count=0), "latex")
    assert r"\text{parameters/FLOP\textasciicircum{}0.5}" in text
    assert r"\frac{\mathrm{parameters}}{\mathrm{chinchilla\_n}}" in text
