"""``llmcalc kvcache``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.commands.kvcache.question import KVCache
from estimator.report import Report


def answer(q: KVCache, shown: Shown) -> Report:
    """The report."""
    from estimator.commands.kvcache.report import answer as estimate

    return estimate(q)


app = command(KVCache, answer)
