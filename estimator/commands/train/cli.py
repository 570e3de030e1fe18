"""``llmcalc train``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.commands.train.question import Train
from estimator.report import Report


def answer(q: Train, shown: Shown) -> Report:
    """The report."""
    from estimator.commands.train.report import answer as estimate

    return estimate(q)


app = command(Train, answer)
