"""What would make a run fit: changes of the question, ranked by what they cost, each answered by running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from estimator import presets
from estimator.card import Card, card_of
from estimator.changes import Change, card_row, row_of, table_of
from estimator.commands.memory.allocator import Reserved
from estimator.commands.memory.host import host_of, ram_of
from estimator.commands.memory.needed import Spent, needed
from estimator.commands.memory.offers import options, plain
from estimator.commands.memory.plan import length, plan
from estimator.commands.memory.question import Memory
from estimator.engines import engine_of
from estimator.errors import InputError
from estimator.fit import NO, YES, Fit, fit_of, need
from estimator.questions.read import storage_of
from estimator.records import NamedTuple, dataclass
from estimator.report import Table
from estimator.trace import value_of
from estimator.units import BYTES, human

SHOWN = 5
PAIRS = 3
MIX = "q4_k_m"  # of llama.cpp's mixes the one that most published files have
CARDS = tuple(2**k for k in range(1, 10))  # of a training step: up to 512
LEFT = 8  # runs that pairs leave for what is looked at after them
SHORT = 256  # tokens that a sequence is not cut below
BIGGER = "h100-sxm h200 b200"  # looked at first where several cards are as large
MOST_RUNS, EFFORT, SHARDED = 1_000, 60_000, 55_000  # of changes; operations of their steps, and of more cards'


class Tried(NamedTuple):
    """A change that was run: its peak and fit."""

    change: Change
    peak: int
    fit: Fit

    @property
    def fits(self) -> bool:
        return self.fit.answer != NO


def run(q: Memory, change: Change, card: Card, most: int | None = None, spent: Spent = None) -> Tried | None:
    """The question with a change, run; None where it does not apply to this model, or whose weights alone are more than
    ``most`` bytes. spent: is told the operations that its steps recorded."""
    try:
        p = plan(replace(q, **change.fields))
        if most is not None and int(value_of(p.weights_bytes)) > most:
            return None
        peak = needed(p, spent=spent)
    except InputError:
        return None
    assert card.bytes is not None
    found = Fit(need(peak, card, p.mode), card.bytes, card.name)
    whole = ram_of(p.question, host, card, found.need) if card.machine and (host := host_of(p)) else None
    return Tried(change, peak, found if whole is None else min(found, whole, key=lambda f: f.margin))


@dataclass(slots=True)
class Trials:
    """Runs of a question with changes, until they are MOST_RUNS or have recorded EFFORT operations. ended: more were
    asked for."""

    q: Memory
    card: Card
    left: int = MOST_RUNS
    effort: int = EFFORT
    ended: bool = False

    def run(self, change: Change, most: int | None = None) -> Tried | None:
        """:func:`run`, or None where there were enough."""
        enough = not self.left or self.effort <= 0
        self.ended = self.ended or enough
        if enough:
            return None
        self.left -= 1
        return run(self.q, change, self.card, most, self.spend)

    def spend(self, operations: int) -> None:
        """A step recorded as many."""
        self.effort -= operations


def on_llamacpp(q: Memory) -> Tried | None:
    """The model as llama.cpp runs it in 4 bits, with as many layers on the card as fit; None where it cannot.

    ``peak``: what is needed of the card.
    """
    from estimator.engines.llamacpp import placed

    own = q.model.declared.scheme if storage_of(q) is None else None
    mix = MIX if plain(q) else {"mxfp4": "mxfp4_moe"}.get(own.name if own is not None else "")
    if q.training or mix is None:
        return None
    change = Change(f"--quantization {mix}", {"quantization": mix}, "llama.cpp, 4-bit weights")
    try:
        if engine_of(asked := replace(q, **change.fields)) != "llama.cpp":
            return None
        layers, found = placed(asked)
    except InputError:
        return None
    if layers is not None:
        flags = f"{change.flags} --gpu-layers {layers}"
        change = Change(flags, change.fields | {"gpu_layers": layers}, f"{change.price}; the rest on the host")
    return None if found is None else Tried(change, int(value_of(found.need.best)), found)


def more_cards(at: Trials) -> Tried | None:
    """The fewest cards that surely hold a training step of fewer, sharded; None where the most do not."""
    q = at.q
    gpus = int(value_of(q.gpus)) if str(q.gpus or 1).isdigit() and q.gpus else 1
    divided = {str(x) for x in (q.tensor_parallel, q.pipeline_parallel, q.context_parallel, q.expert_parallel)} != {"1"}
    if not q.training or (q.stage is not None and gpus == 1) or (gpus > 1 and divided):
        return None
    again = [c for c in options(q) if c.fields == {"checkpointing": "full"}]

    def held(n: int) -> Tried | None:
        stage = "" if q.stage is not None and int(q.stage) == 3 else " --stage 3"
        sharded = Change(f"--gpus {n}{stage}", {"gpus": n, "stage": 3}, f"{n} cards")
        tried = (at.run(c, at.card.bytes) for c in (sharded, *(_together((sharded, c)) for c in again)))
        return next((t for t in tried if t is not None and t.fit.answer == YES), None)

    at.effort = max(at.effort, SHARDED)
    *fewer, last = CARDS
    most = held(last) if last > gpus else None
    return None if most is None else next((t for n in fewer if n > gpus and (t := held(n)) is not None), most)


def try_all(at: Trials, peak: int) -> list[Tried]:
    """Those that save something: what fits first, cheapest first; before it pairs, where no single one surely fits."""
    q, card = at.q, at.card
    own = [t for c in options(q, card.vendor) if (t := at.run(c)) is not None]
    other = on_llamacpp(q)
    single = [t for t in (*own, *([other] if other else [])) if t.peak < peak]
    fitting = [t for t in single if t.fits]
    surely = [t for t in fitting if t.fit.answer == YES]
    if surely:
        as_asked = any("method" not in t.change.fields for t in surely)
        cards = None if as_asked else more_cards(at)  # the same training on more cards, beside an adapter on one
        return [*fitting, *([cards] if cards else []), *(t for t in single if not t.fits)][:SHOWN]
    more = []
    order = sorted(combinations(range(len(own)), 2), key=lambda pair: pair[1])  # by the dearer of the two
    for one, two in ((own[i], own[j]) for i, j in order):
        if not one.change.fields.keys() & two.change.fields.keys():
            found = at.run(_together((one.change, two.change)), card.bytes)
            enough = found is not None and (found.fit.answer == YES or (found.fits and not fitting))
            if found is not None and enough and found.peak < min(one.peak, two.peak):
                more.append(found)
        if len(more) == PAIRS or at.left <= LEFT:
            break
    if not more and not any(t.fits for t in own) and (many := several(at, peak)) is not None:
        more.append(many)
    enough = any(t.fit.answer == YES for t in more) and str(q.gpus or 1) != "1"  # as many cards as were asked for
    if not enough and (cards := more_cards(at)) is not None:
        more.append(cards)
    rest = [*fitting, *sorted((t for t in single if not t.fits), key=lambda t: t.peak)]
    return [*more, *rest][:SHOWN]


def several(runs: Trials, peak: int) -> Tried | None:
    """As many changes together as make it fit, none of which could be left out; None where all of them do not.

    One that a later change of the same field replaces (``--stage 1`` by ``--stage 2``) is not among them.
    """
    at = _added(runs, Chosen({}, peak, None), shorter=False)
    if at.found is None or at.found.fit.answer != YES:
        least = _shortest(runs.q)
        if not least or not _fitting(_added(runs, _with(runs, at, least) or at, shorter=False)):
            return at.found if _fitting(at) else None
        at = _added(runs, at, shorter=True)
    if not _fitting(at):
        return None
    chosen, found = at.changes, at.found
    assert found is not None
    for key in reversed(list(chosen)):  # the dearest first
        fewer = {k: c for k, c in chosen.items() if k != key}
        got = runs.run(_together(list(fewer.values()))) if fewer else None
        if got is not None and (got.fit.answer == YES or got.fit.answer == found.fit.answer):
            chosen, found = fewer, got
    return found


class Chosen(NamedTuple):
    """Changes by the fields that they set, the peak with all of them, and the run."""

    changes: dict[tuple[str, ...], Change]
    peak: int
    found: Tried | None


def _fitting(at: Chosen) -> bool:
    return at.found is not None and at.found.fits


def _with(runs: Trials, at: Chosen, change: Change) -> Chosen | None:
    """With one more, in place of one of the same fields; None where that saves nothing."""
    more = {k: c for k, c in at.changes.items() if not c.fields.keys() & change.fields.keys()}
    more[tuple(change.fields)] = change
    got = runs.run(_together(list(more.values())))
    return None if got is None or got.peak >= at.peak else Chosen(more, got.peak, got)


def _added(runs: Trials, at: Chosen, shorter: bool) -> Chosen:
    """With every change that saves something, one after another, until it surely fits; shorter: sequences too."""
    useless: set[str] = set()  # beside what is chosen: with more it may help (no checkpointing where the states decide)
    while at.found is None or at.found.fit.answer != YES:
        now = replace(runs.q, **_fields(at.changes.values()))
        every = (*options(now, runs.card.vendor), *(_shorter(now) if shorter else ()))
        change = next((c for c in every if c not in at.changes.values() and c.flags not in useless), None)
        if change is None:
            break
        if (more := _with(runs, at, change)) is not None:
            at = more
            useless.clear()
        else:
            useless.add(change.flags)
    return at


def _shorter(q: Memory) -> Iterator[Change]:
    """Half of the tokens, last of all; down to SHORT."""
    tokens = int(value_of(length(q, [])))
    if tokens >= 2 * SHORT:
        yield Change(f"--seq-len {tokens // 2}", {"seq_len": tokens // 2}, "shorter sequences")


def _shortest(q: Memory) -> Change | None:
    """The last of the halves."""
    least: Change | None = None
    while (found := next(_shorter(q), None)) is not None:
        least, q = found, replace(q, **found.fields)
    return least


def _fields(changes: Iterable[Change]) -> dict[str, Any]:
    return {name: value for c in changes for name, value in c.fields.items()}


def _together(changes: Sequence[Change]) -> Change:
    """Several changes as one."""
    prices = dict.fromkeys(c.price for c in changes if not c.price.startswith("none"))
    return Change(" ".join(c.flags for c in changes), _fields(changes), "; ".join(prices) or changes[0].price)


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


def table(tried: list[Tried], asked: Fit, bigger: Bigger | None, ended: bool) -> Table:
    """The changes as rows: what each needs, saves of what is ``asked`` for, and costs. ended: not all were run."""
    rows = [row_of(t.change, t.fit.need.best, asked.need.best - t.fit.need.best, t.fit.answer) for t in tried]
    if bigger is not None:
        rows.append(card_row(bigger.name, f"{bigger.choice}: {human(bigger.bytes, BYTES)}"))
    note = "" if any(t.fits for t in tried) else "no change that was tried makes it surely fit on this card"
    note = "others were not run: a step has too many operations" if ended else note
    return table_of(rows, note)


def sentence(tried: list[Tried], bigger: Bigger | None) -> str:
    """The best change in words, to stand behind the verdict."""
    best = next((t for t in tried if t.fit.answer == YES), None) or next((t for t in tried if t.fits), None)
    if best is not None:
        return f" With {best.change.flags}: {human(int(value_of(best.fit.need.best)), BYTES)}."
    if bigger is None:
        return " No card of the presets holds it."
    return f" {bigger.choice[0].upper()}{bigger.choice[1:]}: {bigger.name}."


def _followed(q: Memory, tried: list[Tried], card: Card) -> Iterator[Tried]:
    """The changes with their blocks followed, as ``--allocator simulated`` asks; not those where they cannot be."""
    for t in tried:
        try:
            found = Reserved(plan(replace(q, **t.change.fields)), t.peak, card).fit()
        except InputError:
            continue
        assert found is not None
        yield t._replace(fit=found)


def advice(q: Memory, card: Card, peak: int, asked: Fit | None = None) -> tuple[Table, str]:
    """(the table, the sentence) for a run that does not surely fit. asked: its fit, where not measured spread's."""
    q = replace(q, model=q.model.in_numbers())  # what is advised is not derived
    mode = "training" if q.training else "inference"
    asked = asked or fit_of(peak, card, mode)
    assert asked is not None
    at = Trials(q, card)
    tried = try_all(at, peak)
    if q.allocator == "simulated":
        tried = sorted(_followed(q, tried, card), key=lambda t: not t.fits)
    bigger = bigger_card(peak, mode, card)
    return table(tried, asked, bigger, at.ended), sentence(tried, bigger)
