"""``llmcalc plan``: tune and train."""

from __future__ import annotations

from estimator import options as o
from estimator.command import Shown, command
from estimator.commands.plan.question import PreTrain, Tune
from estimator.report import Report

app = o.new_app()


def tune(q: Tune, shown: Shown) -> Report:
    """The report of ``plan tune``."""
    from estimator.commands.plan.tune import tune as search

    return search(q)


def train(q: PreTrain, shown: Shown) -> Report:
    """The report of ``plan train``."""
    from estimator.commands.plan.pretrain import pretrain as search

    return search(q)


command(Tune, tune, app, "tune")
command(PreTrain, train, app, "train")
