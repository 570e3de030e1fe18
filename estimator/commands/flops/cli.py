"""``llmcalc flops``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.commands.flops.question import Flops
from estimator.report import Report


def answer(q: Flops, shown: Shown) -> Report:
    """The report."""
    from estimator.commands.flops.report import answer as estimate

    return estimate(q)


app = command(Flops, answer)
