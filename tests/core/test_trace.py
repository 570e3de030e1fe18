"""Traced numbers: the number is exactly the int's, the expression evaluates to it."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from estimator import trace as t
from estimator.formulas.kvcache import kv_cache_bytes
from estimator.ops import ceil_div, exact_div, maximum, minimum, round_up

SIZES = st.integers(1, 10**6)


@pytest.fixture(autouse=True)
def _fresh():
    t.forget()
    yield
    t.forget()


def same(traced: t.Traced, want: int) -> None:
    assert traced.value == want
    numbers = {s: t.bindings()[s.name] for s in traced.expr.free_symbols}
    assert traced.expr.subs(numbers) == want


@given(SIZES, SIZES, SIZES)
def test_arithmetic_keeps_number_and_expression_together(a, b, c):
    t.forget()
    x, y, z = t.trace("hidden_size", a), t.trace("vocab_size", b), t.trace("intermediate_size", c)
    same(x * y + 3 * z - 1, a * b + 3 * c - 1)
    same(10**13 - x, 10**13 - a)
    same(x**2 + y, a**2 + b)
    same(ceil_div(x, y), -(-a // b))
    same(x // y, a // b)
    same(7 // x, 7 // a)
    same(ceil_div(x * 4, 8), -(-a * 4 // 8))
    same(round_up(x, 512), -(-a // 512) * 512)
    same(maximum(x, y, z), max(a, b, c))
    same(minimum(x, y, z), min(a, b, c))
    same(-x + 0, -a)
    assert (x < y) == (a < b)
    assert (x >= y) == (a >= b)
    assert (x == y) == (a == b)
    assert x % y == a % b
    assert hash(x) == hash(a)


def test_one_letter_never_stands_for_two_numbers():
    first, second, again = t.trace("hidden_size", 8), t.trace("hidden_size", 16), t.trace("hidden_size", 8)
    assert [str(x.expr) for x in (first, second, again)] == ["d", "d_2", "d"]
    assert t.bindings() == {"d": 8, "d_2": 16}


def test_exact_division_refuses_a_rest():
    from estimator.errors import InputError

    assert exact_div(12, 4) == 3
    with pytest.raises(InputError, match="heads: 13 is not a multiple of 4"):
        exact_div(13, 4, "heads")


def test_one_body_four_uses():
    """A formula on ints, traced numbers, SymPy symbols and arrays."""
    import numpy

    args = (32, 1, 8192, 8, 128, 128, 16)
    want = 2**30
    assert kv_cache_bytes(*args) == want
    assert type(kv_cache_bytes(*args)) is int
    L, s = t.trace("num_hidden_layers", 32), t.trace("seq_len", 8192)
    same(kv_cache_bytes(L, 1, s, *args[3:]), want)
    letter = sympy.Symbol("L", integer=True, positive=True)
    assert kv_cache_bytes(letter, *args[1:]).subs(letter, 32) == want
    sweep = kv_cache_bytes(32, 1, numpy.array([4096, 8192]), *args[3:])
    assert list(sweep) == [want // 2, want]
