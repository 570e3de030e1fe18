"""What every server's file ends in: the three questions, answered from its plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from estimator.engines import answers, served
from estimator.engines.asked import ServerAsked, Version, read
from estimator.engines.rank import ServedRank
from estimator.report import Report

Answer = Callable[[Any], Report]


class Server(NamedTuple):
    """An engine: its name, the version that stands for it, its own options by a question's fields.

    plan      the memory of the rank that decides
    sizes     (sequences at once, tokens of a step)
    """

    name: str
    latest: Version
    own: tuple[str, ...]
    plan: Callable[[ServerAsked], ServedRank]
    sizes: Callable[[ServerAsked], tuple[int, int]]

    def read(self, q: Any) -> ServerAsked:
        """The question as this engine reads it."""
        return read(q, self.name, self.latest, self.own)

    def questions(self) -> tuple[Answer, Answer, Answer]:
        """The answers to ``memory``, ``kvcache`` and ``infer``: functions of the question."""

        def memory(q: Any) -> Report:
            asked = self.read(q)
            return answers.report("memory", asked, self.plan(asked))

        def kvcache(q: Any) -> Report:
            asked = self.read(q)
            return answers.report("kvcache", asked, self.plan(asked))

        def infer(q: Any) -> Report:
            asked = self.read(q)
            return served.report(asked, self.plan(asked), self.sizes(asked))

        return memory, kvcache, infer
