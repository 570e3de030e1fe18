"""What every server's file ends in: the three questions, answered from its plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from estimator.engines import answers, served
from estimator.engines.asked import ServerAsked, Version, of_version, read
from estimator.engines.brief import of_memory
from estimator.engines.changes import advice
from estimator.engines.rank import ServedRank
from estimator.errors import InputError
from estimator.fit import YES, Fit
from estimator.records import NamedTuple
from estimator.report import Report, Table
from estimator.trace import wordless

Least = tuple[tuple[Version, str], ...]


class Hardware(NamedTuple):
    """The accelerators that an engine runs on: vendors, and the least compute capability of NVIDIA's by version.

    least   (version, capability), newest first: the first whose version is not above the engine's counts
    stored  the same for weights stored in a scheme, where it is more
    """

    vendors: tuple[str, ...]
    least: Least
    stored: Mapping[str, Least] = {}

    def check(self, asked: ServerAsked) -> None:
        """InputError for a card that the engine does not run on."""
        spec = asked.spec
        if spec is None:
            return
        known = f"--engine {asked.engine}: runs on {' and '.join(self.vendors)}"
        if spec.vendor not in self.vendors:
            raise InputError(f"{known}, not on {spec.id} of {spec.vendor}; --engine llama.cpp may")
        scheme = asked.store.scheme
        for table, what in ((self.least, ""), (self.stored.get(scheme, ()), f" for weights in {scheme}")):
            least = of_version(asked, table) if table else "0"
            if spec.compute_capability is not None and float(spec.compute_capability) < float(least):
                of = ".".join(map(str, asked.version))
                raise InputError(f"{known}; {of} needs compute capability {least}{what}, {spec.id} has "
                                 f"{spec.compute_capability}")  # fmt: skip


class Server(NamedTuple):
    """An engine: its name, the version that stands for it, its own options by a question's fields.

    hardware  what it runs on
    plan      the memory of the rank that decides
    sizes     (sequences at once, tokens of a step)
    """

    name: str
    latest: Version
    own: tuple[str, ...]
    hardware: Hardware
    plan: Callable[[ServerAsked], ServedRank]
    sizes: Callable[[ServerAsked], tuple[int, int]]

    def read(self, q: Any) -> ServerAsked:
        """The question as this engine reads it."""
        asked = read(q, self.name, self.latest, self.own)
        self.hardware.check(asked)
        return asked

    def memory(self, q: Any) -> Report:
        """The answer of ``memory``."""
        return self._held("memory", q)

    def kvcache(self, q: Any) -> Report:
        """The answer of ``kvcache``."""
        return self._held("kvcache", q)

    def _held(self, command: str, q: Any) -> Report:
        asked = self.read(q)
        rank = self.plan(asked)
        most, _ = self.sizes(asked)
        found, changes, best = self._fit(asked, rank, most)
        made = answers.report(command, asked, rank, most, found, changes, best)
        return made._replace(brief=of_memory(asked, rank, changes))

    def infer(self, q: Any) -> Report:
        """The answer of ``infer``."""
        asked = served.shaped(self.read(q))
        rank = self.plan(asked)
        # with its own defaults said: a change of the question keeps them
        prompt, new = map(str, served.shape_of(asked))
        given = replace(asked, question=replace(asked.question, seq_len=prompt, new_tokens=new))
        sizes = self.sizes(asked)
        return served.report(asked, rank, sizes, *self._fit(given, rank, sizes[0]))

    def _fit(self, asked: ServerAsked, rank: ServedRank, most: int) -> tuple[Fit | None, Table | None, str]:
        """(the fit, what would change it, the best change in words); most: sequences that a replica runs at once."""
        found = answers.fit(asked, rank, most)
        if found is None or found.answer == YES or asked.pool is not None or wordless():
            return found, None, ""
        return found, *advice(self, asked, rank, found)

    def fit(self, q: Any) -> Fit | None:
        """Whether it fits; None without a card."""
        asked = self.read(q)
        return answers.fit(asked, self.plan(asked), self.sizes(asked)[0])

    def missing(self, q: Any) -> int:
        """Bytes a GPU that the question lacks at the very least; 0 where it fits or no card is named."""
        found = self.fit(q)
        return 0 if found is None else max(0, int(found.need.low) - found.have)
