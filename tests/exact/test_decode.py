"""Decoding: homework's trees and counts, Leviathan et al.'s table, and what bad input gets."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from estimator.commands.decode.report import best_gamma
from estimator.formulas.decode import expected_tokens, speculative_operations, speculative_speedup
from estimator.tree import from_heads, from_sequences

FIVE = "1 2 3 4; 1 2 5 6; 1 7 8 9; 1 7 8 10; 1 7 11 12 13"


LETTERS = {name: sympy.Symbol(name) for name in ("N", "B", "T", "alpha", "gamma", "c")}


def equal(text: str, want: str) -> bool:
    return sympy.simplify(sympy.sympify(text, locals=LETTERS) - sympy.sympify(want, locals=LETTERS)) == 0


def test_beam_search_in_letters(llmcalc):
    found = llmcalc("decode beam --width B --vocab N --length T --format json").results
    assert equal(found["sequences"], "N**T")
    assert equal(found["time"], "T*B*N")
    assert equal(found["space"], "B*T + B*N")


def test_beam_search_in_numbers(llmcalc):
    found = llmcalc("decode beam --width 4 --vocab 50257 --length 20 --format json").results
    assert found["sequences"] == 50257**20
    assert found["time"] == 20 * 4 * 50257
    assert found["space"] == 4 * 20 + 4 * 50257
    huge = llmcalc("decode beam --length 100k --format json").results
    assert huge["sequences"] == "50257**100000"


def test_tree_of_five_candidates(llmcalc):
    found = llmcalc("decode", "tree", "--sequences", FIVE, "--format", "json").results
    assert (found["nodes"], found["tokens_unshared"], found["candidates"]) == (13, 21, 5)
    parents = {"1": None, "2": "1", "3": "2", "4": "3", "5": "2", "6": "5", "7": "1", "8": "7", "9": "8", "10": "8"}
    assert found["parents"] == parents | {"11": "7", "12": "11", "13": "12"}
    mask, names = found["mask"], list(found["parents"])
    for j, name in enumerate(names):
        attended, at = set(), name
        while at is not None:
            attended.add(at)
            at = found["parents"][at]
        assert {names[i] for i in range(13) if mask[i][j]} == attended
    assert all(mask[i][j] == 0 for i in range(13) for j in range(i))  # upper triangular


def test_tree_of_three_medusa_heads(llmcalc):
    found = llmcalc("decode", "tree", "--heads", "2 3; 4 5; 6 7", "--format", "json").results
    assert (found["nodes"], found["candidates"], found["tokens_unshared"]) == (15, 8, 32)
    assert found["parents"]["2.4.6"] == "2.4"
    assert sum(map(sum, found["mask"])) == 1 + 2 * 2 + 4 * 3 + 8 * 4


# Leviathan et al. 2023, arXiv 2211.17192, table 1: (alpha, gamma) -> operations, speed-up, at negligible draft cost
TABLE = {
    (0.6, 2): (1.53, 1.96),
    (0.7, 3): (1.58, 2.53),
    (0.8, 2): (1.23, 2.44),
    (0.8, 5): (1.63, 3.69),
    (0.9, 2): (1.11, 2.71),
    (0.9, 10): (1.60, 6.86),
}


@pytest.mark.parametrize(("at", "want"), TABLE.items())
def test_speculative_table(at, want):
    assert round(speculative_operations(*at, 0), 2) == want[0]
    assert round(speculative_speedup(*at, 0), 2) == want[1]


def test_speculative_in_letters(llmcalc):
    ran = llmcalc("decode speculative --derive --format json").json
    expression = next(d["expression"] for d in ran["derivations"] if d["key"] == "speedup")
    assert equal(expression, "(1 - alpha**(gamma + 1))/((1 - alpha)*(gamma*c + 1))")


@given(st.floats(0, 0.99), st.integers(0, 40), st.floats(0, 1))
def test_speculation_never_beats_its_bounds(alpha, gamma, cost):
    tokens = expected_tokens(alpha, gamma)
    assert 1 - 1e-9 <= tokens <= gamma + 1 + 1e-9
    best = speculative_speedup(alpha, best_gamma(alpha, cost), cost)
    assert best >= speculative_speedup(alpha, gamma, cost) - 1e-9


def test_certain_acceptance_is_the_limit(llmcalc):
    found = llmcalc("decode speculative --alpha 1 --gamma 4 --cost 0.25 --format json").results
    assert (found["expected_tokens"], found["speedup"]) == (5, 2.5)


@given(st.lists(st.lists(st.sampled_from("2345"), max_size=5), min_size=1, max_size=6))
def test_a_tree_never_needs_more_tokens_than_its_candidates(tails):
    tree = from_sequences([["1", *tail] for tail in tails])
    assert len(tree.tokens) <= tree.unshared
    mask = tree.mask
    assert all(mask[i][i] == 1 for i in range(len(mask)))


def test_heads_of_one_guess_are_a_chain():
    tree = from_heads([["2"], ["3"], ["4"]], "1")
    assert tree.parents == (None, 0, 1, 2)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--sequences", "1 2; 3 4"], "share no root"),
        (["--sequences", " ; "], "no tokens"),
        (["--heads", ""], "no tokens"),
        (["--heads", "2 2"], "twice"),
        (["--sequences", "1 2;1 $(rm)"], "not a token"),
        (["--sequences", "1 2", "--heads", "2"], "either"),
        ([], "either"),
        (["--heads", ";".join(["1 2 3 4 5 6 7 8 9 10"] * 9)], "more than"),
    ],
)
def test_bad_trees(llmcalc, argv, words):
    ran = llmcalc("decode", "tree", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "argv", ["--alpha -0.1", "--alpha 1.1", "--alpha nan", "--gamma -1", "--cost -1", "--cost inf", "--gamma 1001"]
)
def test_bad_speculation(llmcalc, argv):
    ran = llmcalc(f"decode speculative {argv}")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
