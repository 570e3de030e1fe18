"""The Python function of ``llmcalc plan``."""

from __future__ import annotations

from typing import Any

from estimator.commands.plan import cli
from estimator.commands.plan.question import PreTrain, Serve, Tune
from estimator.fit import require_fit
from estimator.models import Model
from estimator.names import choice
from estimator.questions import ask
from estimator.report import Report

KINDS: dict[str, tuple[Any, Any]] = {
    "tune": (Tune, cli.tune), "train": (PreTrain, cli.train), "serve": (Serve, cli.serve),
}  # fmt: skip


def plan(kind: str, model: Model | str | None = None, **options: Any) -> Report:
    """Which cards to rent, how many, how divided: ``report.rows``, best first, each with its command.

    kind: "tune", "train" or "serve". options: the fields of :class:`~.question.Tune`, ``PreTrain`` or ``Serve``. Raises
    InputError for options that do not exist or contradict each other, DoesNotFit with ``check_fit`` where there is no
    row.
    """
    question, search = KINDS[choice(kind, "plan", tuple(KINDS))]
    asked = ask(question, model, options)
    made: Report = search(asked)
    if asked.check_fit:
        require_fit(made)
    return made
