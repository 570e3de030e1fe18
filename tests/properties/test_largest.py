"""``--largest`` is exact: the maximum fits, one more does not, as the single command says of both."""

from __future__ import annotations

import pytest

from tests.properties.asked import MORE
from tests.properties.holds import count
from tests.properties.largest import KINDS, drawn, wrong


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(6))
def test_the_largest_fits_and_one_more_does_not(part):
    checked = 0
    for number in range(1000 + part, 1000 + part + 6 * 4 * MORE, 6):
        run = drawn(18, number)
        said, end = wrong(run)
        assert not said, (run, said)
        checked += end == "checked"
    count("the claimed maximum fits, one more does not", checked)


def test_every_kind_is_drawn():
    assert len({drawn(18, n).kind for n in range(60)}) == len(KINDS)
