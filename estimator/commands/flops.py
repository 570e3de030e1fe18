"""``llmcalc flops``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.questions.flops import Flops
from estimator.report import Report


def answer(q: Flops, shown: Shown) -> Report:
    """The report."""
    from estimator.estimates.flops import answer as estimate

    return estimate(q)


app = command(Flops, answer)
