"""Derivations: print in the registry's order, are SymPy-readable, and are checked against the table."""

from __future__ import annotations

import json

import pytest
import sympy

from estimator import derive, printing
from estimator.errors import InputError, InternalError
from estimator.recipes import RECIPES
from estimator.report import Node, Report
from estimator.trace import Traced, forget, letter, trace
from estimator.units import BYTES


@pytest.fixture(autouse=True)
def _fresh():
    forget()


def symbols(*names):
    return [letter(n) for n in names]


def test_factors_are_printed_in_the_registrys_order():
    L, d, r, b, V = symbols("L", "d", "r", "b", "V")
    assert printing.text(2 * r * d * L) == "2*L*d*r"
    assert printing.text(V * d + L * (12 * d**2 + 13 * d)) == "d*(12*L*d + 13*L + V)"
    assert printing.text(b * d - L) == "b*d - L"
    assert printing.to_latex(2 * r * d * L / b) == r"\frac{2\,L\,d\,r}{b}"
    assert printing.text(-L) == "-L"
    assert printing.text(sympy.ceiling(L / 3)) == "ceiling(L/3)"


def test_what_is_printed_reads_back_equal():
    L, d, h, N = symbols("L", "d", "h", "N")
    cases = [
        L * d / (2 * h),
        (L + d) ** 2 / N,
        16 * d / N - L,
        d**L,
        3 * d**2 / 7 + sympy.floor(d / h),
        (d - h) * (L - 1),
        -(L + d) * h,
        sympy.Rational(4, 3) * d,
    ]
    for case in cases:
        text = printing.text(case)
        back = sympy.sympify(text, locals={s.name: s for s in case.free_symbols} | {"N": N})
        assert sympy.simplify(back - case) == 0, text


def test_renames():
    assert derive.parse_renames("L=N_layer, d=D") == {"L": "N_layer", "d": "D"}
    names = printing.Names({"L": "N_layer"})
    (L,) = symbols("L")
    assert printing.text(2 * L, names) == "2*N_layer"
    assert printing.to_latex(2 * L, names) == r"2\,N_{\mathrm{layer}}"
    for bad in ("L", "L=", "=D", "L=1x", "a=X,b=X", "L=__import__('os')"):
        with pytest.raises(InputError):
            derive.parse_renames(bad)


def test_a_derivation_that_differs_from_its_table_is_refused():
    d = trace("hidden_size", 4096)
    wrong = Report("x", "x", {}, (Node("k", "k", Traced(5, d.expr * 2), BYTES),))
    with pytest.raises(InternalError, match="derivation gives 8192, the table 5"):
        derive.derivations(wrong, printing.Names())
    right = Report("x", "x", {}, (Node("k", "k", 2 * d, BYTES),))
    (made,) = derive.derivations(right, printing.Names())
    assert (made.expression, made.substituted, made.value) == ("2*d", "2*4096", 8192)


@pytest.mark.parametrize("line", ["train --tokens 1B", "train --steps 10 --gpus 8 --gpu h100-sxm"])
def test_a_letter_of_two_names_for_one_number_is_no_error(llmcalc, line):
    """GPUs are N as the step's option and as the run's letter."""
    ran = llmcalc(f"{line} --derive")
    assert ran.code == 0
    assert "\n  N  " in ran.out


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_derived_to_what_it_answers(llmcalc, recipe):
    """Also where the loss goes in parts of the tokens, as many as there are."""
    line = f"memory pythia-14m --mode training --recipe {recipe} --batch-size 2 --seq-len 300 --format json"
    plain, derived = (json.loads(llmcalc(f"{line}{more}").out) for more in ("", " --derive"))
    assert derived["derivations"]
    assert plain["results"] == derived["results"]
