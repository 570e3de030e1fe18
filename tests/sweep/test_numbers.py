"""Recorded numbers against ints: any expression, at every row for which the record holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.ops import ceil_div, maximum, minimum, root
from estimator.stack.blocks import block_bytes
from estimator.stack.replay import Replay
from estimator.sweep.evaluate import Evaluator
from estimator.sweep.fold import Recording
from estimator.sweep.number import Number, Unrecordable, int_of
from estimator.trace import recording

RANGES = {"b": (1, 9), "s": (1, 5000)}
ROWS = {"b": np.repeat(np.arange(1, 10), 40), "s": np.tile(np.arange(1, 5001, 125), 9)}


def expressions(depth):
    """Functions of (b, s) as code for sizes is written: sums, products, floors, blocks, extremes, branches."""
    leaf = st.one_of(
        st.integers(0, 70000).map(lambda n: lambda b, s: n),
        st.sampled_from([lambda b, s: b, lambda b, s: s, lambda b, s: b * s]),
    )
    if depth == 0:
        return leaf
    x, y, n = expressions(depth - 1), expressions(depth - 1), st.integers(1, 4100)
    return st.one_of(
        leaf,
        st.builds(lambda f, g: lambda b, s: f(b, s) + g(b, s), x, y),
        st.builds(lambda f, g: lambda b, s: f(b, s) - g(b, s), x, y),
        st.builds(lambda f, g: lambda b, s: f(b, s) * g(b, s), x, y),
        st.builds(lambda f, n: lambda b, s: f(b, s) // n, x, n),
        st.builds(lambda f, n: lambda b, s: f(b, s) % n, x, n),
        st.builds(lambda f, n: lambda b, s: ceil_div(f(b, s), n), x, n),
        st.builds(lambda f, g: lambda b, s: maximum(f(b, s), g(b, s)), x, y),
        st.builds(lambda f, g: lambda b, s: minimum(f(b, s), g(b, s), 7), x, y),
        st.builds(lambda f: lambda b, s: block_bytes(abs_of(f(b, s)) + 1), x),
        st.builds(lambda f, g: lambda b, s: f(b, s) if g(b, s) > 9999 else g(b, s), x, y),
        st.builds(lambda f: lambda b, s: 5 if f(b, s) == 4096 else f(b, s), x),
    )


def abs_of(x):
    return x if x >= 0 else -x


@settings(max_examples=120)
@given(expressions(3), st.integers(0, len(ROWS["b"]) - 1))
def test_any_expression(f, at):
    record = Recording(RANGES)
    made = f(record.size("b", int(ROWS["b"][at])), record.size("s", int(ROWS["s"][at])))
    want = [f(int(b), int(s)) for b, s in zip(*ROWS.values(), strict=True)]
    assert int_of(made) == want[at]
    found = Evaluator(record, {"x": made})
    good, outputs = found.rows(ROWS)
    assert good[at]
    x = np.broadcast_to(outputs()["x"], len(want))
    assert [int(v) for v, g in zip(x, good, strict=True) if g] == [v for v, g in zip(want, good, strict=True) if g]


def test_no_silent_wrap():
    """Beyond 64 bits the rows are Python's ints."""
    record = Recording({"n": (1, 10**9)})
    n = record.size("n", 3)
    found = Evaluator(record, {"cube": n * n * n * 7, "square": n * n // 3})
    assert not found.narrow
    rows = {"n": np.array([1, 3, 10**9])}
    assert found.rows(rows)[1]()["cube"].tolist() == [7, 189, 7 * 10**27]


@pytest.mark.parametrize("f", [
    lambda n: (n * 3 + 1) / n, lambda n: 1 / n * 0.3 + n, lambda n: (n / 7 - 0.1) / (2.5 * n), lambda n: n * 10**15 / 7,
    lambda n: n * 0.1 if n / 3 > 20 else 0.5 / n,
])  # fmt: skip
def test_floats_are_the_same_floats(f):
    record = Recording({"n": (1, 10**4)})
    made = f(record.size("n", 77))
    rows = {"n": np.arange(1, 10001)}
    good, outputs = Evaluator(record, {"x": made}).rows(rows)
    assert [v for v, g in zip(outputs()["x"].tolist(), good, strict=True) if g] == [
        f(n) for n, g in zip(range(1, 10001), good, strict=True) if g
    ]


def test_what_a_look_up_depends_on_is_kept():
    record = Recording(RANGES)
    b, s = record.size("b", 2), record.size("s", 100)
    assert {b * 50: "x"}[s] == "x"  # in this run
    assert Evaluator(record, {}).rows({"b": np.array([2, 3, 4]), "s": np.array([100, 150, 100])})[0].tolist() == [
        True, True, False,
    ]  # fmt: skip
    assert s not in {b: 1, b + 1: 2}


def test_where_a_number_must_be_known_the_record_is_for_that_number():
    record = Recording(RANGES)
    s = record.size("s", 100)
    assert list(range(s // 40)) == [0, 1]
    rows = {"b": np.array([1, 1, 1]), "s": np.array([79, 80, 119])}
    assert Evaluator(record, {}).rows(rows)[0].tolist() == [False, True, True]


def test_what_cannot_be_recorded_says_so():
    n = Recording({"n": (0, 9)}).size("n", 3)
    for call in (lambda: float(n), lambda: 10 // (n - 5), lambda: n**9, lambda: "x" * 0 + n):
        with pytest.raises((Unrecordable, TypeError)):
            call()


def test_a_multiple_of_a_sum_is_divided():
    record = Recording({"n": (0, 9), "m": (0, 9)})
    n, m = record.size("n", 3), record.size("m", 4)
    assert (6 * n * m + 3 * n) // (2 * n * m + n) == 3
    for above in (6 * n * m + 3 * n + 1, 6 * n * m + 4 * n, 6 * n * m):
        with pytest.raises(Unrecordable):
            above // (2 * n * m + n)


def test_a_root_of_a_square():
    record = Recording(RANGES)
    b, s = record.size("b", 2), record.size("s", 100)
    made = root(9 * b * b * s * s)
    assert isinstance(made, Number)
    assert made.terms == (3 * b * s).terms
    assert not record.guards


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12), st.integers(2, 5), st.data())
def test_the_fold_of_a_log(steps, times, data):
    """The peak of any log of allocations and a repeated segment, at every row."""

    def log_of(b, s):
        sizes = [block_bytes(x) for x in (b * s * 4, b * s * 2, s * 64, b * 700, 5 * s + 3)]
        entries, held = [], []
        for kind, frees in steps:
            if frees and held:
                entries.append((-1, held.pop(0)))
            held.append((sizes[kind], ("", str(kind))))
            entries.append((1, held[-1]))
        middle = len(entries) // 2
        return [*entries[:middle], (times, entries[middle:]), *entries[:1]]

    def peak(b, s):
        replay = Replay(1000)
        replay.run(log_of(b, s))
        return replay.peak

    at = data.draw(st.integers(0, len(ROWS["b"]) - 1))
    want = [peak(int(b), int(s)) for b, s in zip(*ROWS.values(), strict=True)]
    record = Recording(RANGES)
    token = recording.set(record)
    try:
        made = peak(record.size("b", int(ROWS["b"][at])), record.size("s", int(ROWS["s"][at])))
    finally:
        recording.reset(token)
    good, outputs = Evaluator(record, {"peak": made}).rows(ROWS)
    assert good[at]
    found = np.broadcast_to(outputs()["peak"], len(want))
    assert [int(v) for v, g in zip(found, good, strict=True) if g] == [v for v, g in zip(want, good, strict=True) if g]
