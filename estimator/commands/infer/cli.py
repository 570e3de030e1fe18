"""``llmcalc infer``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.commands.infer.question import Infer
from estimator.report import Report


def answer(q: Infer, shown: Shown) -> Report:
    """The report."""
    from estimator.commands.infer.report import answer as estimate

    return estimate(q)


app = command(Infer, answer)
