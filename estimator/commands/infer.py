"""``llmcalc infer``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.questions.infer import Infer
from estimator.report import Report


def answer(q: Infer, shown: Shown) -> Report:
    """The report, with the curve of ``--plot``."""
    from estimator.estimates.infer import answer as estimate
    from estimator.estimates.infer import plot

    report = estimate(q)
    return report._replace(body=(*report.body, plot(report))) if q.plot else report


app = command(Infer, answer)
