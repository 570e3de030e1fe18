"""The derivation against the homework: symbolically, numerically, and as LaTeX."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import sympy

from estimator.chinchilla import laws, steps
from tests.conftest import Ran

LETTERS = {n: sympy.Symbol(n, positive=True) for n in ("A", "B", "C", "C0", "N", "D", "L0", "alpha", "beta")}
HOMEWORK = {
    "G": "(alpha*A/(beta*B))**(1/(alpha+beta))",
    "a": "beta/(alpha+beta)",
    "b": "alpha/(alpha+beta)",
    "N_opt": "G*(C/C0)**a",
    "D_opt": "(C/C0)**b/G",
}


def parse(text: str) -> Any:
    return sympy.parse_expr(text, local_dict=dict(LETTERS))


def homework(key: str) -> Any:
    named = {k: parse(HOMEWORK[k]) for k in ("G", "a", "b")}
    return sympy.parse_expr(HOMEWORK[key], local_dict={**LETTERS, **named})


def same(one: Any, other: Any) -> bool:
    return bool(sympy.simplify(sympy.expand_log(sympy.log(one) - sympy.log(other), force=True)) == 0)


@pytest.mark.parametrize("law", ["hoffmann", "epoch", "muennighoff"])
def test_derivations_equal_the_homework_symbolically(llmcalc: Callable[..., Ran], law: str) -> None:
    ran = llmcalc(f"chinchilla --compute 1e21 --law {law} --derive --format json")
    found = {d["key"]: d for d in ran.json["derivations"]}
    for key in HOMEWORK:
        expression = parse(found[key]["expression"])
        assert same(expression, homework(key)), key
        assert found[key]["value"] == pytest.approx(ran.results[key])


def test_the_worked_steps_arrive_at_the_homework() -> None:
    symbols = steps.symbols()
    _, closed = steps.derive(symbols)
    for key in HOMEWORK:
        assert same(closed[key], homework(key)), key


def test_numbers_of_the_homework(llmcalc: Callable[..., Ran]) -> None:
    """N_opt = 0.6 C^0.45, D_opt = 0.3 C^0.55, L_opt = 1070 C^-0.154 + 1.7."""
    _, found = steps.numbers(laws.load("hoffmann").parametric, 6)  # type: ignore[arg-type]
    assert {k: v for k, v, _ in found}["N_opt"] == "0.5987 C**0.4516"
    got = llmcalc("chinchilla --compute 1e21 --law hoffmann --format json").results
    n = got["N_opt"] / 1e21 ** got["a"]
    d = got["D_opt"] / 1e21 ** got["b"]
    for value, want in (
        (n, 0.6),
        (got["a"], 0.45),
        (d, 0.3),
        (got["b"], 0.55),
        (got["L_opt.K"], 1070),
        (got["L_opt.exponent"], -0.154),
    ):
        assert value == pytest.approx(want, rel=0.08)
    assert got["L_opt.K"] * 1e21 ** got["L_opt.exponent"] + 1.69 == pytest.approx(got["loss"])


def test_direct_rule_of_the_homework(llmcalc: Callable[..., Ran]) -> None:
    got = llmcalc("chinchilla --params 1e14 --law hoffmann-direct --format json").results
    assert got["C"] == pytest.approx(1e30, rel=1e-9)
    assert got["D_opt"] == pytest.approx(1.7e15, rel=1e-9)


@pytest.mark.parametrize(
    "question", ["--params 8e9", "--tokens 1e12", "--usd 1e6 --gpu h100-sxm", "--compute 1e24 --train-tokens 1e12"]
)
@pytest.mark.parametrize("law", ["epoch", "kaplan", "llama3", "hoffmann-direct", "hoffmann-approach1"])
def test_every_question_derives(llmcalc: Callable[..., Ran], question: str, law: str) -> None:
    plain = llmcalc(f"chinchilla {question} --law {law} --format json")
    derived = llmcalc(f"chinchilla {question} --law {law} --derive --format json")
    assert derived.code == 0, derived.err
    assert derived.results == plain.results
    assert {d["key"] for d in derived.json["derivations"]} >= {"C", "N_opt", "D_opt", "tokens_per_param"}
    for d in derived.json["derivations"]:
        assert all(s["meaning"] for s in derived.json["symbols"]), d


def test_latex_is_ready_to_hand_in(llmcalc: Callable[..., Ran]) -> None:
    out = llmcalc("chinchilla --compute 1e21 --law hoffmann --derive --format latex").out
    assert "\\mathcal{L} = L_{0} + \\lambda\\,\\left(C_{0}\\,N\\,D - C\\right) + \\frac{A}{N^{\\alpha}}" in out
    assert "G &= \\left(\\frac{\\alpha\\,A}{\\beta\\,B}\\right)^{\\frac{1}{" in out
    assert out.count("\\begin{align*}") == out.count("\\end{align*}")
    assert "verbatim" not in out
    for bad in ("**", "lambda C0"):
        assert bad not in out.split("Minimise the loss")[1].split("\\begin{tabular}")[0]


def test_letters_can_be_renamed(llmcalc: Callable[..., Ran]) -> None:
    out = llmcalc("chinchilla --compute 1e21 --law hoffmann --derive --symbols L0=E,C0=k").out
    assert "L(N, D) = E + A/N**alpha + B/D**beta" in out
    assert "C = k*N*D" in out


def test_own_coefficients_derive(llmcalc: Callable[..., Ran]) -> None:
    ran = llmcalc(
        "chinchilla --compute 1e21 --coefficients E=1.8,A=480,B=2090,alpha=.35,beta=.37 --derive --format json"
    )
    assert json.loads(ran.out)["results"]["a"] == pytest.approx(0.37 / 0.72)
    assert math.isfinite(ran.results["loss"])
