"""Logarithms, exponentials and sums that no C library and no version of Python rounds otherwise."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.alike import add_up, exp, lgamma, log

BITS = ["0x1.62e42fefa39efp-1", "0x1.26bb1bbb55516p+1", "-0x1.5963447f87fb5p+9", "0x1.5bf0a8b14576ap+1"]
BITS += ["0x1.368b2fc6f960ap-1", "0x1.d945df4f8ec8ep+1009", "0x1.250d048e7a1c0p-1", "0x1.714ac96c9d5d3p+12"]


def away(a: float, b: float) -> float:
    """How many last bits lie between two floats."""
    return abs(a - b) / math.ulp(b)


@given(st.floats(1e-300, 1e300))
def test_log(x):
    assert abs(log(x) - math.log(x)) <= 3 * math.ulp(max(abs(math.log(x)), 1e-16))


@given(st.floats(-700, 700))
def test_exp(x):
    assert away(exp(x), math.exp(x)) <= 2


@given(st.floats(0.1, 1e6))
def test_lgamma(x):
    assert math.isclose(lgamma(x), math.lgamma(x), rel_tol=1e-13, abs_tol=1e-13)


def test_bits_are_these():
    """What this machine computes, to the last bit: a machine that computes otherwise is found here."""
    found = [log(2.0), log(10.0), log(1e-300), exp(1.0), exp(-0.5), exp(700.0), lgamma(0.5), lgamma(1000.5)]
    assert [x.hex() for x in found] == BITS


def test_edges():
    assert (log(1.0), exp(0.0), exp(-1e9)) == (0.0, 1.0, 0.0)
    for x in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="no logarithm"):
            log(x)
    with pytest.raises(OverflowError):
        exp(710.0)


def test_sums_round_at_every_step():
    values = [0.1] * 10
    assert add_up(values) == 0.9999999999999999
    assert add_up([]) == 0
    assert add_up([Fraction(1, 3)] * 3) == 1


