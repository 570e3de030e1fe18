"""What a serving engine's passes take: a prompt in chunks, a decode step, by the roofline and the engine's own pace."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from estimator.engines.lettered import Terms
from estimator.engines.pace import ALL_REDUCES, FP4, Pace
from estimator.records import dataclass
from estimator.serving.step import Serving, decode, prefill
from estimator.trace import Traced, value_of
from estimator.work.times import COMPUTE, LINKS, MEMORY, PRODUCTS, Times


@dataclass(frozen=True, slots=True)
class RequestLoad:
    """A request's shape and how many are there.

    prompt     tokens that are computed: not those whose cache was found; new: tokens generated
    sequences  a replica runs at once; waiting: as many more wait for a place
    found      tokens of the prompt that are in the cache already
    """

    prompt: int
    new: int
    sequences: float
    found: int = 0
    waiting: float = 0.0

    @property
    def context(self) -> float:
        """Cached tokens of a sequence in the middle of its generation."""
        return self.found + self.prompt + self.new / 2

    @property
    def joining(self) -> float:
        """Prompts that join a step which any joins, where a sequence that ends makes room for the next."""
        return max(1.0, (self.sequences - 1) / self.new)

    def seconds(self, prompts: Any, step: Any) -> Any:
        """Seconds in which all sequences that run at once are done: their ``prompts``, of which each gives a token, and
        a ``step`` for each further one."""
        return prompts + (self.new - 1) * step


class Passes:
    """The passes of a model on a card, each folded once: loads, shares of a load and the ideal ask for the same.

    terms: in a run that derives, where the parts of each pass are kept as letters.
    """

    def __init__(self, serve: Serving, terms: Terms | None = None) -> None:
        self.serve, self.terms = serve, terms
        self.prefill = cache(self._prefill)
        self.decode = cache(self._decode)

    def _prefill(self, sequences: int, tokens: int) -> Times:
        made = prefill(self.serve, sequences, tokens)
        return made if self.terms is None else self.terms.of(made, f"{sequences:,} x {tokens:,} prompt tokens")

    def _decode(self, sequences: int, context: int) -> Times:
        made = decode(self.serve, sequences, context)
        return made if self.terms is None else self.terms.of(made, f"a step of {sequences:,} at {context:,} tokens")


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of an engine's passes.

    passes    of the model on the card; stages: of a pipeline, which pass a batch's parts along
    pace      the engine's own share; step_tokens: tokens of its longest step; ahead: steps scheduled before a newcomer
    ideal     True for the roofline alone
    """

    passes: Passes
    pace: Pace
    stages: int
    step_tokens: int
    ideal: bool = False
    ahead: float = 0.0

    @property
    def serve(self) -> Serving:
        """The model on the card."""
        return self.passes.serve

    def of(self, serve: Serving) -> Speed:
        """The same engine with another model on the card."""
        return replace(self, passes=Passes(serve))

    @property
    def server(self) -> float:
        """Seconds between a request and its first step."""
        return 0.0 if self.ideal else self.pace.server

    def together(self, sequences: float, tokens: int) -> int:
        """Prompts of ``tokens`` tokens that a step computes at once."""
        return max(1, min(round(sequences), self.step_tokens // max(1, tokens)))

    def prompt(self, sequences: float, tokens: int) -> Any:
        """Seconds to compute ``sequences`` prompts of ``tokens`` tokens, in the engine's chunks."""
        together = self.together(sequences, tokens)
        made = self.passes.prefill(together, tokens)
        if self.ideal:
            return float(value_of(made.ideal)) * sequences / together
        return by(self.paced(made, self.pace.prompt), sequences) / together

    def step(self, sequences: float, context: float) -> Any:
        """Seconds of a decode step of ``sequences`` with ``context`` cached tokens each."""
        made = self.decoded(sequences, context)
        if self.ideal:
            return float(value_of(made.ideal))
        return self.paced(made, self.pace.step) + self.pace.sequence * self._rows(sequences)

    def decoded(self, sequences: float, context: float) -> Times:
        """The pass of such a step through a stage."""
        return self.passes.decode(self._rows(sequences), max(1, round(context)))

    def _rows(self, sequences: float) -> int:
        return max(1, round(sequences / self.stages))

    def spare(self, load: RequestLoad) -> Any:
        """Seconds of a decode step of a load in which prompts that join it compute; the ideal shares no reading."""
        if self.ideal:
            return 0.0
        read = self.seconds(weights_read(self.decoded(load.sequences, load.context)))
        own = self.seconds(self.computing(load))
        return spare(self.worked(read, self.pace.step), self.worked(own, self.pace.prompt), load)

    def computing(self, load: RequestLoad) -> Any:
        """Seconds that the products of as many tokens as there are sequences compute in the pass of a prompt."""
        together = self.together(load.sequences, load.prompt)
        made = self.passes.prefill(together, load.prompt).parts.get((PRODUCTS, COMPUTE), 0)
        return made * load.sequences / (together * load.prompt)

    def worked(self, seconds: Any, multiple: float) -> Any:
        """Seconds of a pass's own work by the engine's multiple of it."""
        return by(by(seconds, multiple), self._wide)

    @property
    def _wide(self) -> float:
        return FP4 if self.serve.machine.dtype == "fp4" else 1.0

    def seconds(self, value: Any) -> Any:
        """A number of a pass: traced where its parts are letters."""
        return value if self.passes.terms is not None else float(value_of(value))

    def paced(self, made: Times, multiple: float) -> Any:
        """Seconds of a pass: its own work and its all-reduces, each by the engine's multiple."""
        links = self.seconds(made.of(LINKS))
        work = self.seconds(made.device) - links
        return self.worked(work, multiple) + by(links, ALL_REDUCES)


def by(value: Any, factor: float) -> Any:
    """``value`` times a factor, which a letter does not show where it is 1."""
    return value if factor == 1 and isinstance(value, Traced) else value * factor


def weights_read(made: Times) -> Any:
    """Seconds of a pass in which products wait for their weights."""
    return made.parts.get((PRODUCTS, MEMORY), 0)


def spare(read: Any, own: Any, load: RequestLoad) -> Any:
    """Seconds of a decode step in which a prompt that joins it computes while the weights come.

    All that the weights take where prompts join one by one: so published loads are met best. Of a step that several
    join, what the products of its own sequences leave.

    read: seconds of a step that the weights take; own: those in which its own products compute.
    """
    return max(0.0, read - own * (1 - 1 / load.joining))


def carried(every: Any, load: RequestLoad, spare: Any) -> Any:
    """Seconds that the prompts of the other sequences add to the decode steps of one.

    A prompt that shares a step's pass computes while the step waits for its weights; several that share it, together.

    every: seconds of the prompts of all sequences; spare: seconds of a step in which it waits (:func:`spare`).
    """
    one = every / load.sequences
    return (every - one) * (1 - min(spare / load.joining, one) / one)
