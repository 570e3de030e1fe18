"""``--allocator simulated``: what the allocator reserves, followed block by block in place of the measured spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimator.card import BLOCKS, KERNELS, SPREAD, Card, Range, device
from estimator.card import reserved as spread
from estimator.commands.memory.sharding import too_deep
from estimator.commands.memory.stack import micro_batches
from estimator.errors import InputError
from estimator.fit import TIGHT, Fit, fit_of
from estimator.names import choice
from estimator.trace import value_of
from estimator.working import Form, Step, Working, over, plus, times

if TYPE_CHECKING:
    from estimator.commands.memory.plan import MemoryPlan
    from estimator.moments.pooled import Pooled

KINDS = ("spread", "simulated")


PERCENTILES = ("5th percentile", "median", "95th percentile")


class Reserved:
    """What a process needs beside its tensors: ``held``, reserved by the allocator; ``on_card``, shown by the driver.

    pooled: the blocks, where they were simulated. Bytes.
    """

    def __init__(self, p: MemoryPlan, peak: Any, card: Card) -> None:
        self.pooled = simulated(p)
        self.peak, self.card, self.mode = (self.pooled.allocated if self.pooled else peak), card, p.mode
        self.held = spread(peak, p.mode) if self.pooled is None else around(self.pooled)
        self.on_card = device(self.held, card, p.mode)

    @property
    def note(self) -> str:
        """How it is known, as an assumption."""
        if self.pooled is None:
            return ""
        low, _, high = (float(x) for x in BLOCKS)
        return (
            "reserved: PyTorch's caching allocator followed block by block through the load and three steps; "
            f"{low:.3f} to {high:.3f} times that were measured (5th, 95th percentile)"
        )

    def reserved_steps(self, at: int) -> Working:
        """How an end of ``held`` comes about: its place in the range."""
        share = SPREAD[self.mode][at]

        def steps() -> list[Step]:
            if self.pooled is not None:
                return []
            made = over(times(share.numerator, self.peak), share.denominator)
            whole = value_of(self.peak * share.numerator) % share.denominator == 0
            rule = f"reserved over allocated, {PERCENTILES[at]} of measured runs: {float(share):g}"
            return [Step(rule, made if whole else Form("floor", (made,)))]

        return steps

    def device_steps(self, at: int) -> Working:
        """How an end of ``on_card`` comes about."""
        beside = self.card.context[at], KERNELS[self.mode][at]
        return lambda: [Step("with the CUDA context and the kernels that are loaded", plus(self.held[at], *beside))]

    def hint(self, p: MemoryPlan, fit: Fit) -> str:
        """What would say more where the spread leaves it open."""
        open_ = fit.answer == TIGHT and self.pooled is None and not why_not(p)
        return " --allocator simulated looks closer." if open_ else ""

    def fit(self) -> Fit | None:
        """The fit, or None where no card was named."""
        return fit_of(self.peak, self.card, self.mode, self.held)


def around(blocks: Pooled) -> Range:
    """The range of what was measured around simulated blocks."""
    return Range(*(blocks.reserved * r.numerator // r.denominator for r in BLOCKS))


def why_not(p: MemoryPlan) -> str:
    """Why the blocks of a run cannot be followed, or ""."""
    if p.mode != "training" or p.recipe.kind != "simulated":
        return "follows a training step: add --mode training (and no paper's recipe)"
    if p.load.gpus != 1 or p.load.compiled:
        return "follows one GPU, without torch.compile"
    if p.traced:
        return "needs numbers: leave out --derive and letters"
    return too_deep(p.arch)


def simulated(p: MemoryPlan) -> Pooled | None:
    """The blocks of a run, None where they are not asked for; InputError where they cannot be followed."""
    kind = choice(p.question.allocator, "--allocator", KINDS)
    if kind == "spread":
        return None
    if why := why_not(p):
        raise InputError(f"--allocator simulated {why}")
    from estimator.moments.pooled import pooled

    return pooled(p.share, p.load, micro_batches(p.question))


__all__ = ["KINDS", "Reserved", "simulated"]
