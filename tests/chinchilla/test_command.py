"""The command: every question, what bends it, money, bad input."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Ran

KEYS = {"N_opt", "D_opt", "C", "loss", "tokens_per_param"}


@pytest.mark.parametrize(
    "law", ["hoffmann", "hoffmann-approach1", "hoffmann-approach2", "hoffmann-direct", "epoch", "kaplan", "llama3"]
)
def test_the_questions_agree_with_each_other(llmcalc: Callable[..., Ran], law: str) -> None:
    first = llmcalc(f"chinchilla --compute 1e23 --law {law} --format json")
    got = first.results
    assert set(got) >= KEYS
    assert got["C"] == 10**23
    for flag, key in (("--params", "N_opt"), ("--tokens", "D_opt")):
        back = llmcalc("chinchilla", flag, round(got[key]), "--law", law, "--format", "json").results
        assert back["C"] == pytest.approx(1e23, rel=1e-6)
        assert back["tokens_per_param"] == pytest.approx(got["tokens_per_param"], rel=1e-6)
    assert first.json["results"]["law"] == law
    assert any(got["coefficients"] in a for a in first.json["assumptions"])  # which rounding is always said


def test_no_question_is_chinchillas_own_and_says_so(llmcalc: Callable[..., Ran]) -> None:
    ran = llmcalc("chinchilla --format json")
    assert ran.results["C"] == 576 * 10**21
    assert any("no question given" in a for a in ran.json["assumptions"])
    assert len(ran.json["tables"][0]["rows"]) == 15


def test_laws_side_by_side(llmcalc: Callable[..., Ran]) -> None:
    got = llmcalc("chinchilla --compute 5.76e23 --law all --format json").results
    assert got["epoch.unrounded.tokens_per_param"] == pytest.approx(18.34, abs=0.01)
    assert got["hoffmann.printed.tokens_per_param"] == pytest.approx(92.65, abs=0.01)
    assert got["llama3.unrounded.loss"] is None


def test_money_and_time(llmcalc: Callable[..., Ran]) -> None:
    line = "chinchilla --law epoch --gpu h100-sxm --mfu 40% --price 2 --gpus 1000 --format json"
    got = llmcalc(line + " --usd 1e6").results
    assert got["gpu_hours"] == pytest.approx(500_000)
    assert got["C"] == pytest.approx(500_000 * 3600 * 989.5e12 * 0.4)
    assert got["usd"] == pytest.approx(1e6)
    assert got["days"] == pytest.approx(500 / 24)
    hours = llmcalc(line + " --gpu-hours 500000").results
    assert hours["C"] == pytest.approx(got["C"])
    again = llmcalc("chinchilla", *line.split()[1:], "--params", round(got["N_opt"])).results
    assert again["usd"] == pytest.approx(1e6, rel=1e-6)


def test_guesses_about_the_machine_are_assumptions(llmcalc: Callable[..., Ran]) -> None:
    said = " ".join(llmcalc("chinchilla --law epoch --gpu h100-sxm --format json").json["assumptions"])
    assert "--mfu not given: 40%" in said
    assert "--price not given: the median of" in said


def test_overtraining(llmcalc: Callable[..., Ran]) -> None:
    got = llmcalc("chinchilla --params 8e9 --train-tokens 15e12 --law epoch --format json").results
    assert got["trained.C"] == 6 * 8 * 10**9 * 15 * 10**12
    assert got["trained.tokens_per_param"] == 1875
    assert got["trained.loss_penalty"] == pytest.approx(0.0538, abs=1e-4)
    best = llmcalc("chinchilla --compute 7.2e23 --law epoch --format json").results
    assert got["trained.loss"] - best["loss"] == pytest.approx(got["trained.loss_penalty"])
    # the optimum of the same loss, by asking for that compute
    least = got["trained.C"] / (1 + got["trained.compute_excess"] / 100)
    assert llmcalc(
        "chinchilla", "--compute", f"{least:.12g}".split("e")[0] + "e23", "--law", "epoch", "--format", "json"
    ).results["loss"] == pytest.approx(got["trained.loss"], rel=1e-6)
    fixed = llmcalc("chinchilla --compute 7.2e23 --train-params 8e9 --law epoch --format json").results
    assert fixed["trained.D"] == pytest.approx(15e12)
    assert fixed["trained.loss"] == pytest.approx(got["trained.loss"])
    tokens = llmcalc("chinchilla --tokens 15e12 --train-params 8e9 --law epoch --format json").results
    assert tokens["trained.C"] == pytest.approx(7.2e23)


def test_the_optimum_has_no_penalty(llmcalc: Callable[..., Ran]) -> None:
    best = llmcalc("chinchilla --compute 1e23 --law epoch --format json").results
    got = llmcalc(
        "chinchilla", "--compute", "1e23", "--train-params", round(best["N_opt"]), "--law", "epoch", "--format", "json"
    ).results
    assert got["trained.loss_penalty"] == pytest.approx(0, abs=1e-9)
    assert got["trained.compute_excess"] == pytest.approx(0, abs=1e-6)


def test_mixture_of_experts_counts_active_parameters(llmcalc: Callable[..., Ran]) -> None:
    got = llmcalc("chinchilla --model mixtral-8x7b --law epoch --format json").results
    assert got["N_opt"] == 12_879_925_248
    assert got["total_params"] == pytest.approx(46_702_792_704)
    share = llmcalc("chinchilla --params 100e9 --active-fraction 0.25 --law epoch --format json").results
    dense = llmcalc("chinchilla --params 25e9 --law epoch --format json").results
    assert share["C"] == pytest.approx(dense["C"])
    assert share["total_params"] == pytest.approx(100e9)
    budget = llmcalc("chinchilla --compute 1e24 --active-fraction 10% --law epoch --format json").results
    assert budget["total_params"] == pytest.approx(10 * budget["N_opt"])


def test_dense_model(llmcalc: Callable[..., Ran]) -> None:
    got = llmcalc("chinchilla --model llama-3-8b --law epoch --format json").results
    assert got["N_opt"] == 8_030_261_248
    assert "total_params" not in got


def test_inference_aware(llmcalc: Callable[..., Ran]) -> None:
    got = llmcalc(
        "chinchilla --params 30e9 --inference-tokens 1e13 --format json "
        "--coefficients E=1.69,A=406.4,B=410.7,alpha=.336,beta=.283"
    ).results
    assert got["inference.N"] == pytest.approx(13.6e9, rel=0.005)
    assert got["inference.saved"] == pytest.approx(28, abs=0.5)
    assert got["inference.loss"] == pytest.approx(got["loss"])


def test_repeated_data(llmcalc: Callable[..., Ran]) -> None:
    ran = llmcalc("chinchilla --compute 9.3e21 --unique-tokens 25e9 --law muennighoff --format json")
    got = ran.results
    assert got["repeated.N"] < got["N_opt"]
    assert got["repeated.epochs"] == pytest.approx(got["repeated.D"] / 25e9)
    assert got["repeated.loss"] - got["loss"] == pytest.approx(got["repeated.loss_penalty"])
    assert ran.err == ""
    plenty = llmcalc("chinchilla --compute 9.3e21 --unique-tokens 1e15 --law muennighoff --format json").results
    assert plenty["repeated.epochs"] == 1
    assert plenty["repeated.loss_penalty"] == 0
    many = llmcalc("chinchilla --compute 9.3e23 --unique-tokens 1e9 --law epoch --format json")
    assert "epochs" in many.err  # beyond what the law was fitted on


@pytest.mark.parametrize(
    "argv",
    [
        "--compute 0", "--compute -1", "--compute nan", "--compute inf", "--compute 1e99", "--compute x", "--params 0",
        "--tokens 0", "--usd 0 --gpu h100-sxm", "--usd nan --gpu h100-sxm", "--usd 5", "--gpu-hours 5",
        "--compute 1e21 --params 1e9", "--compute 1e21 --tokens 1e9", "--params 1e9 --tokens 1e10",
        "--compute 1e21 --usd 5 --gpu h100-sxm",
        "--params 1e9 --model gpt2", "--law chinchila", "--law all --train-params 1e9", "--law all --derive",
        "--law epoch --coefficients table", "--law epoch --coefficients E=1,A=2,B=3,alpha=.3,beta=.3",
        "--params 1e9 --train-params 1e9", "--tokens 1e9 --train-tokens 1e9", "--train-params 1e9 --train-tokens 1e9",
        "--law kaplan --inference-tokens 1e9", "--law llama3 --unique-tokens 1e9", "--active-fraction 0",
        "--active-fraction 1.5",
        "--gpus 8", "--mfu 0.4", "--mfu 0 --gpu h100-sxm", "--mfu 1.1 --gpu h100-sxm", "--gpu nope", "--model symbolic",
        "--price -1 --gpu h100-sxm", "--dtype fp4 --gpu h100-sxm", "--plot pie", "--plot contours --law kaplan",
        "--plot contours --law all",
        "--plot contours --format json", "--coefficients E=1,A=1e15,B=1e-300,alpha=0.011,beta=0.011", "fit", "fitt",
        "--compute 1e20 fit runs.csv", "--model mixtral-8x7b --active-fraction 0.5", "--format pdf",
        "--output /nonexistent/x.svg",
    ],
)  # fmt: skip
def test_bad_input_is_one_line(llmcalc: Callable[..., Ran], argv: str) -> None:
    ran = llmcalc(f"chinchilla {argv}")
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_two_questions_name_the_way_out(llmcalc: Callable[..., Ran]) -> None:
    err = llmcalc("chinchilla --params 8e9 --tokens 15e12").err
    assert "--params and --tokens are two questions at once" in err
    assert "--params with --train-tokens" in err


@pytest.mark.parametrize(
    "argv",
    [
        "--params 1e40",
        "--params 1",
        "--compute 1",
        "--tokens 1e40 --law kaplan",
        "--unique-tokens 1",
        "--inference-tokens 1e39",
    ],
)
def test_absurd_sizes_end(llmcalc: Callable[..., Ran], argv: str) -> None:
    assert llmcalc(f"chinchilla {argv} --format json").code == 0


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown", "latex"])
def test_every_format(llmcalc: Callable[..., Ran], format: str) -> None:
    ran = llmcalc(
        "chinchilla --compute 1e22 --law epoch --gpu h100-sxm --inference-tokens 1e12 --unique-tokens 1e10 "
        f"--train-params 1e9 --format {format}"
    )
    assert ran.code == 0, ran.err
    assert ran.out


def test_coefficients_and_their_intervals_are_results(llmcalc: Callable[..., Ran]) -> None:
    got = llmcalc("chinchilla --law epoch --format json").results
    assert (got["E"], got["alpha"], got["beta"]) == (1.81686404, 0.34781303, 0.36585412)
    assert got["A.low"] < got["A"] < got["A.high"]
    assert "A" not in llmcalc("chinchilla --law kaplan --format json").results


def test_json_carries_the_working(llmcalc):
    """The steps of the table's derivation as data, each relation equal to what the table prints."""
    told = llmcalc("chinchilla --compute 1e21 --law hoffmann --derive")
    steps = llmcalc("chinchilla --compute 1e21 --law hoffmann --derive --format json").json["steps"]
    text = " ".join(told.out.split())
    assert len(steps) > 5
    for number, step in enumerate(steps, 1):
        assert f"{number}. {step['rule']}:" in text
        assert step["relations"]
        for relation in step["relations"]:
            assert f"{relation['left']} = {relation['expression']}" in text
            assert relation["latex"]
    assert steps[-1]["given"]["alpha"] == 0.34
