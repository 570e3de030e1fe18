"""Whether a run fits an accelerator: one question, asked by every command that names a GPU.

What a run needs is a range. Low: what its tensors take at the peak, the driver's context and the kernels that are
loaded; a cached block that the allocator can give back is not a need. Median and high: with the fragmentation that was
measured (:mod:`estimator.card`).
"""

from __future__ import annotations

from typing import Any

from estimator.card import KERNELS, Card, Range, device, reserved
from estimator.errors import DoesNotFit, InputError
from estimator.records import dataclass
from estimator.report import Node, Report
from estimator.trace import value_of
from estimator.units import BYTES, human

YES, TIGHT, NO = "yes", "tight", "no"
WORDS = {YES: "fits", TIGHT: "just fits", NO: "does not fit"}


def _of_its(card: str, have: int) -> str:
    """`` of its 24 GB`` where macOS gives the GPU a part of the machine's memory; "" for other cards."""
    from estimator.presets import find, load_gpu, sized

    if find("gpus", card) is None and sized(card) is None:
        return ""
    memory = load_gpu(card).memory
    return f" of its {memory.sold_gb:g} GB" if memory.wired_bytes == have else ""


@dataclass(frozen=True, slots=True)
class Fit:
    """What is needed, in bytes a GPU, beside what a program gets on ``card``."""

    need: Range
    have: int
    card: str

    @property
    def answer(self) -> str:
        """``yes``, ``no``, or ``tight`` where what is there lies inside the range of what is needed."""
        if value_of(self.need.high) <= self.have:
            return YES
        return NO if value_of(self.need.low) > self.have else TIGHT

    @property
    def margin(self) -> Any:
        """Bytes left over, an int; negative where they are missing."""
        return self.have - value_of(self.need.best)

    def sentence(self, what: str = "") -> str:
        """The verdict in words, with the amount; what: "a GPU ", where that is not plain from the title."""
        need, have = human(int(value_of(self.need.best)), BYTES), human(self.have, BYTES)
        gap = human(abs(self.margin), BYTES)
        asks = f"{what}need{'' if what[:1].isdigit() and not what.startswith('1 ') else 's'} {need}"
        have += _of_its(self.card, self.have)
        if self.answer == NO:
            return f"Does not fit: {asks}, {self.card} has {have}; over by {gap}."
        if self.answer == TIGHT:
            low, high = (human(int(value_of(x)), BYTES) for x in (self.need.low, self.need.high))
            return f"Just fits, perhaps: {asks} ({low} to {high}), {self.card} has {have}."
        return f"Fits: {asks}, {self.card} has {have}; {gap} to spare."

    def node(self) -> Node:
        """The rows of a report: need, have, margin."""
        need = self.need
        rows = [
            Node(
                "need_bytes", "Needed", need.best, BYTES,
                (
                    Node("need_bytes.low", "low: tensors, context, kernels", need.low, BYTES),
                    Node("need_bytes.high", "high: with the most fragmentation measured", need.high, BYTES),
                ),
            ),
            Node("have_bytes", f"What a program gets on {self.card}", self.have, BYTES),
            Node("margin_bytes", "Left over" if self.margin >= 0 else "Missing", self.margin, BYTES),
        ]  # fmt: skip
        return Node.group(f"Fits on {self.card}", rows, note=self.answer)


def need(allocated: Any, card: Card, mode: str, offset: Any = 0, held: Range | None = None) -> Range:
    """Bytes that a process needs whose tensors peak at ``allocated``; mode: "training" or "inference".

    offset: bytes beside the allocator's; held: what the allocator reserves, where that is known better.
    """
    shown = device(reserved(allocated, mode) if held is None else held, card, mode)
    low = allocated + card.context.low + KERNELS[mode][0]
    return Range(low + offset, shown.best + offset, shown.high + offset)


def fit_of(allocated: Any, card: Card, mode: str, held: Range | None = None) -> Fit | None:
    """The fit of a process whose tensors peak at ``allocated`` bytes; None where no card was named.

    held: what the allocator reserves, where that is known better.
    """
    return None if card.bytes is None else Fit(need(allocated, card, mode, held=held), card.bytes, card.name)


def together(card: Card, needs: Range, host: Any, gpus: int = 1) -> Fit | None:
    """Whether what ``gpus`` of a card need and what lies on their hosts fit one memory; None where each has its own."""
    if card.machine is None:
        return None
    name = f"the machine ({card.name}, GPU and host together)"
    return Fit(Range(*(n + host for n in needs)), gpus * card.machine, name)


def require_fit(report: Report) -> None:
    """DoesNotFit where a report says no; InputError where it names nothing to fit."""
    answer = report.facts.get("fits")
    if answer is None:
        raise InputError("--check-fit needs --gpu" if "gpu" in report.inputs else "--check-fit: nothing to fit")
    if answer == NO:
        raise DoesNotFit(report.verdict or f"{report.title}: does not fit")
