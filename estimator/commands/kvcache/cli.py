"""``llmcalc kvcache``."""

from __future__ import annotations

from estimator.command import Shown, command, with_plot
from estimator.commands.kvcache.question import KVCache
from estimator.report import Report


def answer(q: KVCache, shown: Shown) -> Report:
    """The report, with the growth of ``--plot``."""
    from estimator.commands.kvcache.report import answer as estimate

    return with_plot(estimate(q), q.plot)


app = command(KVCache, answer)
