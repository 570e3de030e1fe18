"""``llmcalc memory``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.commands.memory.question import Memory
from estimator.report import Report


def answer(q: Memory, shown: Shown) -> Report:
    """The report."""
    from estimator.commands.memory.report import answer as estimate

    return estimate(q)


app = command(Memory, answer)
