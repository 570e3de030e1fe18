"""``llmcalc plan``: tune, train and serve."""

from __future__ import annotations

from estimator import options as o
from estimator.command import Shown, command
from estimator.commands.plan.question import PreTrain, Serve, Tune
from estimator.report import Report

app = o.new_app()


def tune(q: Tune, shown: Shown | None = None) -> Report:
    """The report of ``plan tune``."""
    from estimator.commands.plan.tune import tune as search

    return search(q)


def train(q: PreTrain, shown: Shown | None = None) -> Report:
    """The report of ``plan train``."""
    if q.model is None:
        from estimator.commands.plan.optimal import optimal

        return optimal(q)
    from estimator.commands.plan.pretrain import pretrain as search

    return search(q)


def serve(q: Serve, shown: Shown | None = None) -> Report:
    """The report of ``plan serve``."""
    from estimator.commands.plan.serve import serve as search

    return search(q)


command(Tune, tune, app, "tune")
command(PreTrain, train, app, "train")
command(Serve, serve, app, "serve")
