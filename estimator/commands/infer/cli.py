"""``llmcalc infer``."""

from __future__ import annotations

from estimator.command import Shown, command, with_plot
from estimator.commands.infer.question import Infer
from estimator.report import Report


def answer(q: Infer, shown: Shown) -> Report:
    """The report, with the curve of ``--plot``."""
    from estimator.commands.infer.report import answer as estimate

    return with_plot(estimate(q), q.plot)


app = command(Infer, answer)
