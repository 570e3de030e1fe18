"""``llmcalc train``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.questions.train import Train
from estimator.report import Report


def answer(q: Train, shown: Shown) -> Report:
    """The report."""
    from estimator.estimates.train import answer as estimate

    return estimate(q)


app = command(Train, answer)
