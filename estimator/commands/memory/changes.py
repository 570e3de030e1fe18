"""What would make a run fit: changes of the question, ranked by what they cost, each answered by running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from estimator import presets
from estimator.card import Card, card_of
from estimator.changes import Change, card_row, row_of, table_of
from estimator.commands.memory.plan import needed, plan
from estimator.commands.memory.question import Memory
from estimator.errors import InputError
from estimator.fit import NO, YES, Fit, need
from estimator.report import Table
from estimator.trace import value_of
from estimator.units import BYTES, human

SHOWN = 5
PAIRS = 3
BIGGER = "h100-sxm h200 b200"  # looked at first where several cards are as large


class Tried(NamedTuple):
    """A change that was run: its peak and fit."""

    change: Change
    peak: int
    fit: Fit

    @property
    def fits(self) -> bool:
        return self.fit.answer != NO


def options(q: Memory) -> Iterator[Change]:
    """The changes that apply to a question, cheapest first: free ones, time, precision, work done otherwise."""
    if q.attention == "eager":
        yield Change("--attention sdpa", {"attention": "sdpa"}, "none: faster")
    if q.training:
        yield from _training(q)
    else:
        yield from _inference(q)
        if _many(q.batch_size):
            yield Change("--batch-size 1", {"batch_size": 1}, "one sequence at a time")


def _many(size: Any) -> bool:
    return str(value_of(size)).strip() not in ("1", "")


def _training(q: Memory) -> Iterator[Change]:
    from estimator.questions.read import recipe_of

    recipe = recipe_of(q, [])
    full = q.method in (None, "full")
    simulated = recipe.kind == "simulated"
    if simulated and q.kernels == "torch" and q.loss == "full":
        yield Change("--loss fused", {"loss": "fused"}, "none: a kernel that never writes the logits")
    if simulated and full and q.optimizer == "adamw":
        yield Change("--optimizer adamw-fused", {"optimizer": "adamw-fused"}, "none: one kernel, no temporaries")
    if q.checkpointing != "full":
        yield Change("--checkpointing full", {"checkpointing": "full"}, "a third more compute")
    if _many(q.batch_size):
        yield Change("--batch-size 1", {"batch_size": 1}, "gradient accumulation for the same batch")
    if full and q.optimizer in (None, "adamw", "adamw-fused"):
        yield Change("--optimizer adamw8bit", {"optimizer": "adamw8bit"}, "8-bit states")
    if simulated and recipe.weights == 4 and full:
        yield Change("--recipe torch-bf16", {"recipe": "torch-bf16"}, "bf16 weights: small updates round away")
    if full and simulated:
        lora = {"method": "lora", "rank": 16, "targets": "all-linear", "recipe": None}
        same = "" if q.recipe is None else " (no --recipe)"
        yield Change(f"--method lora --rank 16 --targets all-linear{same}", lora, "trains an adapter")
        yield Change(
            f"--method qlora --rank 16 --targets all-linear{same}", lora | {"method": "qlora"},
            "trains an adapter on a 4-bit base",
        )  # fmt: skip
    elif q.method == "lora" and q.quantization == "none":
        yield Change("--method qlora", {"method": "qlora"}, "a 4-bit base")
    gpus = int(value_of(q.gpus)) if str(q.gpus or "").isdigit() else 0
    if gpus > 1:
        stage = 0 if q.stage is None else int(q.stage)
        for n in range(stage + 1, 4):
            yield Change(f"--stage {n}", {"stage": n}, "more traffic between GPUs")
        if simulated and stage >= 2 and str(q.fsdp_version) == "2":
            yield Change("--fsdp-version 1", {"fsdp_version": "1"}, "the older FSDP, which copies nothing out")
        if q.offload == "none" and stage:
            yield from _offloads(simulated)


def _offloads(simulated: bool) -> Iterator[Change]:
    if not simulated:
        yield Change("--offload optimizer", {"offload": "optimizer"}, "the host steps")
    yield Change("--offload all", {"offload": "all"}, "the host steps, weights come over PCIe")


def _inference(q: Memory) -> Iterator[Change]:
    if q.logits == "all":
        yield Change("--logits last", {"logits": "last"}, "the last position's logits only")
    if q.quantization == "none" and q.model.stored_bytes is None:
        yield Change("--quantization int8", {"quantization": "int8"}, "8-bit weights")
        yield Change("--quantization nf4-dq", {"quantization": "nf4-dq"}, "4-bit weights")


def run(q: Memory, change: Change, card: Card) -> Tried | None:
    """The question with a change, run; None where it does not apply to this model."""
    try:
        p = plan(replace(q, **change.fields))
        peak = needed(p)
    except InputError:
        return None
    assert card.bytes is not None
    return Tried(change, peak, Fit(need(peak, card, p.mode), card.bytes, card.name))


def try_all(q: Memory, card: Card, peak: int) -> list[Tried]:
    """Those that save something: what fits first, cheapest first; before it pairs, where no single one surely fits."""
    every = [t for c in options(q) if (t := run(q, c, card)) is not None]
    single = [t for t in every if t.peak < peak]
    fitting = [t for t in single if t.fits]
    if any(t.fit.answer == YES for t in fitting):
        return [*fitting, *(t for t in single if not t.fits)][:SHOWN]
    pairs = []
    order = sorted(combinations(range(len(every)), 2), key=lambda pair: pair[1])  # by the dearer of the two
    for one, two in ((every[i], every[j]) for i, j in order):
        if not one.change.fields.keys() & two.change.fields.keys():
            both = Change(
                f"{one.change.flags} {two.change.flags}", one.change.fields | two.change.fields,
                f"{one.change.price}; {two.change.price}",
            )  # fmt: skip
            found = run(q, both, card)
            enough = found is not None and (found.fit.answer == YES or (found.fits and not fitting))
            if found is not None and enough and found.peak < min(one.peak, two.peak):
                pairs.append(found)
        if len(pairs) == PAIRS:
            break
    rest = [*fitting, *sorted((t for t in single if not t.fits), key=lambda t: t.peak)]
    return [*pairs, *rest][:SHOWN]


class Bigger(NamedTuple):
    """A larger card: its preset, its bytes, and how it was chosen."""

    name: str
    bytes: int
    choice: str


def bigger_card(peak: int, mode: str, than: Card) -> Bigger | None:
    """The smallest preset on which the run fits, of those that are rented by the hour where the vendor has such.

    Of the vendor of the card that was asked for, whose software runs there; of NVIDIA's where that was a size.
    """
    found: list[tuple[bool, int, bool, str]] = []
    for spec in presets.larger(than.vendor, max(peak, than.bytes or 0)):
        if Fit(need(peak, card_of(spec), mode), spec.memory_bytes, spec.id).answer == YES:
            found.append((not spec.prices, spec.memory_bytes, spec.id not in BIGGER.split(), spec.id))
    if not found:
        return None
    unpriced, size, _, name = min(found)
    return Bigger(name, size, f"the smallest {f'{than.vendor} card' if unpriced else 'rented card'} that holds it")


def table(tried: list[Tried], peak: int, bigger: Bigger | None) -> Table:
    """The changes as rows: what each needs, saves and costs."""
    rows = [row_of(t.change, t.fit.need.best, peak - t.peak, t.fit.answer) for t in tried]
    if bigger is not None:
        rows.append(card_row(bigger.name, f"{bigger.choice}: {human(bigger.bytes, BYTES)}"))
    note = "" if any(t.fits for t in tried) else "neither one change nor two of these make it fit on this card"
    return table_of(rows, note)


def sentence(tried: list[Tried], bigger: Bigger | None) -> str:
    """The best change in words, to stand behind the verdict."""
    best = next((t for t in tried if t.fit.answer == YES), None) or next((t for t in tried if t.fits), None)
    if best is not None:
        return f" With {best.change.flags} it needs {human(int(value_of(best.fit.need.best)), BYTES)}."
    if bigger is None:
        return " No card of the presets holds it."
    return f" {bigger.choice[0].upper()}{bigger.choice[1:]}: {bigger.name}."


def advice(q: Memory, card: Card, peak: int) -> tuple[Table, str]:
    """(the table, the sentence) for a run that does not surely fit."""
    tried = try_all(q, card, peak)
    bigger = bigger_card(peak, "training" if q.training else "inference", card)
    return table(tried, peak, bigger), sentence(tried, bigger)
