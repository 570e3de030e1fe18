"""``llmcalc peft``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.commands.peft.question import Peft
from estimator.report import Report


def answer(q: Peft, shown: Shown) -> Report:
    """The report."""
    from estimator.commands.peft.report import answer as estimate

    return estimate(q)


app = command(Peft, answer)
