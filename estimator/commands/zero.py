"""``llmcalc zero``."""

from __future__ import annotations

from dataclasses import replace

from estimator.command import Shown, command
from estimator.questions.zero import Zero
from estimator.report import Report


def answer(q: Zero, shown: Shown) -> Report:
    """The report."""
    from estimator.estimates.zero import answer as estimate

    return estimate(replace(q, derive=shown.derive))


app = command(Zero, answer)
