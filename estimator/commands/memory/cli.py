"""``llmcalc memory``."""

from __future__ import annotations

from estimator.command import Shown, command, with_plot
from estimator.commands.memory.question import Memory
from estimator.report import Report


def answer(q: Memory, shown: Shown) -> Report:
    """The report, with the moments of ``--plot``."""
    from estimator.commands.memory.report import answer as estimate

    return with_plot(estimate(q), q.plot)


app = command(Memory, answer)
