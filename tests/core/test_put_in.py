"""Numbers put into expressions by Python come to what SymPy makes of them, or to nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from estimator.put_in import put_in
from estimator.trace import _rounded

X, Y, Z = (sympy.Symbol(n, positive=True, integer=True) for n in "xyz")
LEAVES = st.sampled_from([X, Y, Z, sympy.Integer(3), sympy.Rational(7, 4), sympy.Integer(-2)])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, inner).map(lambda p: sympy.Max(*p)),
        inner.map(lambda e: sympy.floor(e / 5)),
        inner.map(lambda e: sympy.ceiling(e / 3)),
        inner.map(lambda e: e**2),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, st.tuples(*[st.integers(1, 10**6)] * 3))
def test_exact(expr, numbers):
    point = dict(zip((X, Y, Z), numbers, strict=True))
    want = expr.subs(point)
    assert put_in(expr, point) == Fraction(int(want.p), int(want.q))


def test_floats_are_near():
    assert put_in(1.5 * X / Y + sympy.Float("1e-11"), {X: 3, Y: 7}) == pytest.approx(4.5 / 7 + 1e-11, rel=1e-15)


@pytest.mark.parametrize(
    "expr", [sympy.Function("f")(X), sympy.sqrt(X), X**Y, Z + 1, 1 / (X - 2), sympy.Sum(Y, (Y, 1, X))], ids=str
)
def test_left_to_sympy(expr):
    assert put_in(expr, {X: 2, Y: 100}) is None


TERMS = st.tuples(st.fractions(), st.sampled_from([X, Y, X * Y, Z**2, sympy.Integer(1)]))


@given(st.lists(TERMS, min_size=1, max_size=4))
def test_floors_of_sums_are_sympys(terms):
    expr = sympy.Add(*(sympy.Rational(c.numerator, c.denominator) * t for c, t in terms))
    assert _rounded(sympy.floor, expr) == sympy.floor(expr)
    assert _rounded(sympy.ceiling, expr) == sympy.ceiling(expr)
