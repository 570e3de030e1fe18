"""``llmcalc zero``."""

from __future__ import annotations

from dataclasses import replace

from estimator.command import Shown, command
from estimator.commands.zero.question import Zero
from estimator.report import Report


def answer(q: Zero, shown: Shown) -> Report:
    """The report."""
    from estimator.commands.zero.report import answer as estimate

    return estimate(replace(q, derive=bool(shown.derive)))


app = command(Zero, answer)
