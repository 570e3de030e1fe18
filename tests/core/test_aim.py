"""The largest number that fits is found whatever the need looks like, with few questions where it is nearly a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from estimator.aim import LIMIT, longest

STEPS = st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**9)), max_size=6)


@given(slope=st.integers(0, 1000), start=st.integers(-(10**6), 10**6), steps=STEPS, room=st.integers(-(10**6), 10**10))
def test_the_next_one_does_not_fit(slope, start, steps, room):
    def need(n):
        return start + slope * n + sum(jump for at, jump in steps if n >= at)

    found = longest(need, room)
    if found is None:
        assert need(LIMIT) <= room
    else:
        assert found == 0 or need(found) <= room
        assert need(found + 1) > room


def test_a_line_takes_few_questions():
    asked = []

    def need(n):
        asked.append(n)
        return 7 + 131072 * n + (n // 512) * 99

    assert need(longest(need, 85 * 10**9) + 1) > 85 * 10**9
    assert len(asked) < 12
