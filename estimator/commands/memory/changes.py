"""What would make a run fit: changes of the question, ranked by what they cost, each answered by running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from estimator import presets
from estimator.card import NO_BITSANDBYTES, Card, card_of
from estimator.changes import Change, card_row, row_of, table_of
from estimator.commands.memory.allocator import Reserved
from estimator.commands.memory.host import host_of, ram_of
from estimator.commands.memory.needed import needed
from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.engines import engine_of
from estimator.errors import InputError
from estimator.fit import NO, YES, Fit, fit_of, need
from estimator.parallel.links import node_size
from estimator.questions.read import recipe_of, storage_of
from estimator.records import NamedTuple
from estimator.report import Table
from estimator.trace import value_of
from estimator.units import BYTES, human

SHOWN = 5
PAIRS = 3
MIX = "q4_k_m"  # of llama.cpp's mixes the one that most published files have
CARDS = (2, 4, 8)
SHORT = 256  # tokens that a sequence is not cut below
BIGGER = "h100-sxm h200 b200"  # looked at first where several cards are as large


class Tried(NamedTuple):
    """A change that was run: its peak and fit."""

    change: Change
    peak: int
    fit: Fit

    @property
    def fits(self) -> bool:
        return self.fit.answer != NO


def options(q: Memory, vendor: str = "NVIDIA") -> Iterator[Change]:
    """The changes that apply to a question, cheapest first: free ones, time, precision, work done otherwise.

    vendor: of the card, whose libraries decide what there is to ask for.
    """
    if q.attention == "eager":
        yield Change("--attention sdpa", {"attention": "sdpa"}, "none: faster")
    if q.training:
        yield from _training(q)
    else:
        yield from _inference(q, vendor)
        if _many(q.batch_size):
            yield Change("--batch-size 1", {"batch_size": 1}, "one sequence at a time")


def _many(size: Any) -> bool:
    return str(value_of(size)).strip() not in ("1", "")


def _training(q: Memory) -> Iterator[Change]:
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
        lora = {"method": "lora", "targets": "all-linear", "recipe": None}
        same = "" if q.recipe is None else " (no --recipe)"
        yield Change(f"--method lora --targets all-linear{same}", lora, "trains an adapter")
        yield Change(
            f"--method qlora --targets all-linear{same}", lora | {"method": "qlora"},
            "trains an adapter on a 4-bit base",
        )  # fmt: skip
    elif q.method == "lora" and plain(q):
        yield Change("--method qlora", {"method": "qlora"}, "a 4-bit base")
    gpus = int(value_of(q.gpus)) if str(q.gpus or "").isdigit() else 0
    if gpus > 1:
        stage = 0 if q.stage is None else int(q.stage)
        for n in range(stage + 1, 4):
            yield Change(f"--stage {n}", {"stage": n}, "more traffic between GPUs")
        if not simulated:
            yield from _divided(q, gpus)
        if simulated and stage >= 2 and str(q.fsdp_version) == "2":
            yield Change("--fsdp-version 1", {"fsdp_version": "1"}, "the older FSDP, which copies nothing out")
        if q.offload == "none" and stage:
            yield from _offloads(simulated)


def _divided(q: Memory, gpus: int) -> Iterator[Change]:
    """Twice as many GPUs for each layer, inside a node, or for the stack of layers."""
    tensor, pipeline = (int(str(x)) if str(x).isdigit() else gpus for x in (q.tensor_parallel, q.pipeline_parallel))
    room = gpus // (tensor * pipeline) >= 2
    if tensor > 1 and not q.sequence_parallel:
        yield Change("--sequence-parallel", {"sequence_parallel": True}, "none: norms are divided too")
    if room and 2 * tensor <= node_size(q.gpus_per_node, None):
        more = str(2 * tensor)
        yield Change(f"--tensor-parallel {more}", {"tensor_parallel": more}, "more traffic inside a node")
    if room:
        more = str(2 * pipeline)
        yield Change(f"--pipeline-parallel {more}", {"pipeline_parallel": more}, "stages that wait for each other")


def _offloads(simulated: bool) -> Iterator[Change]:
    if not simulated:
        yield Change("--offload optimizer", {"offload": "optimizer"}, "the host steps")
    yield Change("--offload all", {"offload": "all"}, "the host steps, weights come over PCIe")


def plain(q: Memory) -> bool:
    """Whether the weights are numbers of 16 or 32 bits: not asked for in fewer, not stored in fewer, no file's own."""
    own = storage_of(q)
    declared = own is None and q.model.declared.scheme is not None
    return own in (None, "none") and not declared and q.model.stored_bytes is None


def _inference(q: Memory, vendor: str) -> Iterator[Change]:
    if q.logits == "all":
        yield Change("--logits last", {"logits": "last"}, "the last position's logits only")
    if plain(q) and vendor not in NO_BITSANDBYTES:
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
    found = Fit(need(peak, card, p.mode), card.bytes, card.name)
    whole = ram_of(p.question, host, card, found.need) if card.machine and (host := host_of(p)) else None
    return Tried(change, peak, found if whole is None else min(found, whole, key=lambda f: f.margin))


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


def more_cards(q: Memory, card: Card) -> Tried | None:
    """The fewest cards that surely hold a training step of one, sharded; None where the most do not."""
    if not q.training or str(q.gpus or 1) != "1" or q.stage is not None:
        return None
    again = [c for c in options(q) if c.fields == {"checkpointing": "full"}]
    for n in CARDS:
        sharded = Change(f"--gpus {n} --stage 3", {"gpus": n, "stage": 3}, f"{n} cards")
        for change in (sharded, *(_together((sharded, c)) for c in again)):
            found = run(q, change, card)
            if found is not None and found.fit.answer == YES:
                return found
    return None


def try_all(q: Memory, card: Card, peak: int) -> list[Tried]:
    """Those that save something: what fits first, cheapest first; before it pairs, where no single one surely fits."""
    own = [t for c in options(q, card.vendor) if (t := run(q, c, card)) is not None]
    other = on_llamacpp(q)
    single = [t for t in (*own, *([other] if other else [])) if t.peak < peak]
    fitting = [t for t in single if t.fits]
    surely = [t for t in fitting if t.fit.answer == YES]
    if surely:
        as_asked = any("method" not in t.change.fields for t in surely)
        cards = None if as_asked else more_cards(q, card)  # the same training on more cards, beside an adapter on one
        return [*fitting, *([cards] if cards else []), *(t for t in single if not t.fits)][:SHOWN]
    more = []
    order = sorted(combinations(range(len(own)), 2), key=lambda pair: pair[1])  # by the dearer of the two
    for one, two in ((own[i], own[j]) for i, j in order):
        if not one.change.fields.keys() & two.change.fields.keys():
            found = run(q, _together((one.change, two.change)), card)
            enough = found is not None and (found.fit.answer == YES or (found.fits and not fitting))
            if found is not None and enough and found.peak < min(one.peak, two.peak):
                more.append(found)
        if len(more) == PAIRS:
            break
    if not more and not any(t.fits for t in own) and (many := several(q, card, peak)) is not None:
        more.append(many)
    if (cards := more_cards(q, card)) is not None:
        more.append(cards)
    rest = [*fitting, *sorted((t for t in single if not t.fits), key=lambda t: t.peak)]
    return [*more, *rest][:SHOWN]


def several(q: Memory, card: Card, peak: int) -> Tried | None:
    """As many changes together as make it fit, none of which could be left out; None where all of them do not.

    One that a later change of the same field replaces (``--stage 1`` by ``--stage 2``) is not among them.
    """
    chosen: dict[tuple[str, ...], Change] = {}
    best = peak
    found: Tried | None = None
    useless: set[str] = set()  # beside what is chosen: with more it may help (no checkpointing where the states decide)
    while found is None or found.fit.answer != YES:
        now = replace(q, **_fields(chosen.values()))
        every = (*options(now, card.vendor), *_shorter(now))
        change = next((c for c in every if c not in chosen.values() and c.flags not in useless), None)
        if change is None:
            break
        more = {k: c for k, c in chosen.items() if not c.fields.keys() & change.fields.keys()}
        more[tuple(change.fields)] = change
        got = run(q, _together(list(more.values())), card)
        if got is not None and got.peak < best:
            chosen, best, found = more, got.peak, got
            useless.clear()
        else:
            useless.add(change.flags)
    if found is None or not found.fits:
        return None
    for key in reversed(list(chosen)):  # the dearest first
        fewer = {k: c for k, c in chosen.items() if k != key}
        got = run(q, _together(list(fewer.values())), card) if fewer else None
        if got is not None and (got.fit.answer == YES or got.fit.answer == found.fit.answer):
            chosen, found = fewer, got
    return found


def _shorter(q: Memory) -> Iterator[Change]:
    """Half of the tokens, last of all; down to SHORT."""
    tokens = int(value_of(plan(q).load.s))
    if tokens >= 2 * SHORT:
        yield Change(f"--seq-len {tokens // 2}", {"seq_len": tokens // 2}, "shorter sequences")


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


def table(tried: list[Tried], asked: Fit, bigger: Bigger | None) -> Table:
    """The changes as rows: what each needs, saves of what is ``asked`` for, and costs."""
    rows = [row_of(t.change, t.fit.need.best, asked.need.best - t.fit.need.best, t.fit.answer) for t in tried]
    if bigger is not None:
        rows.append(card_row(bigger.name, f"{bigger.choice}: {human(bigger.bytes, BYTES)}"))
    note = "" if any(t.fits for t in tried) else "no change of the software makes it surely fit on this card"
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
    mode = "training" if q.training else "inference"
    asked = asked or fit_of(peak, card, mode)
    assert asked is not None
    tried = try_all(q, card, peak)
    if q.allocator == "simulated":
        tried = sorted(_followed(q, tried, card), key=lambda t: not t.fits)
    bigger = bigger_card(peak, mode, card)
    return table(tried, asked, bigger), sentence(tried, bigger)
