"""The question the other way round: the largest batch, sequence, rank, context or number of layers that fits a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

from estimator import aim
from estimator.card import Card, find_card
from estimator.commands.memory.needed import needed
from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.engines import OWN, answered, engine_of, fit_in
from estimator.engines.llamacpp.context import MAX_SEQUENCES, SMALL_PAD
from estimator.errors import InputError
from estimator.fit import Fit, fit_of
from estimator.ops import round_up
from estimator.report import Node, Report
from estimator.trace import value_of
from estimator.units import COUNT, TOKENS

FIELDS = {"batch-size": ("batch_size", COUNT), "seq-len": ("seq_len", TOKENS), "rank": ("rank", COUNT),
          "ctx-size": ("ctx_size", TOKENS), "gpu-layers": ("gpu_layers", COUNT)}  # fmt: skip
HERE = ("batch-size", "seq-len", "rank")  # of transformers and of training
SERVED = ("batch-size", "seq-len")  # of every engine; llama.cpp has all but the rank
LLAMA_CPP = (*SERVED, "ctx-size", "gpu-layers")
MOST = 2**32  # no batch, sequence or rank comes near


def largest(q: Memory, card: Card) -> tuple[Node, str]:
    """(the rows, a sentence) of ``--largest``: the largest that fits, exact, and the largest that surely does.

    One more than the first does not fit, all up to it do; up to the second the whole range of the need lies within the
    card. Raises InputError for an option that is not searched, or without a card.
    """
    _check(q, HERE, card)
    field = FIELDS[str(q.largest)][0]

    def fit(n: int) -> Fit | None:
        p = plan(replace(q, **{field: n, "largest": None}))
        return fit_of(needed(p), card, p.mode)

    return _found(q, card.name, fit, _ripple(q) if q.largest == "seq-len" and not q.training else (1, 0))


def _ripple(q: Memory) -> tuple[int, int]:
    """Of a cache that shrinks where a pool's window is full: estimator.kv.layers.ripple."""
    from estimator.kv.layers import cache_bytes, ripple

    arch = q.model.architecture

    def held(tokens: int) -> int:
        batch = plan(replace(q, largest=None, seq_len=1)).load.b
        return int(value_of(cache_bytes(arch, batch, tokens, tokens)))

    return ripple(arch, held)


def largest_served(q: Memory) -> Report:
    """The report of ``memory`` in a serving engine with the largest that fits, which stands before it."""
    card = find_card(str(q.gpu).split(",")[0] if q.gpu else None, q.gpu_memory)
    llamacpp = engine_of(q) == "llama.cpp"
    _check(q, LLAMA_CPP if llamacpp else SERVED, card)
    if q.largest == "batch-size" and q.parallel is not None:
        raise InputError(f"--largest batch-size: --parallel {q.parallel} says how many there are; leave it out")
    layers = int(value_of(q.model.architecture.num_layers)) + 1  # the output layer counts as one

    def with_(n: int) -> Memory:
        fields: dict[str, Any] = {FIELDS[str(q.largest)][0]: str(n)}
        if q.largest == "seq-len" and not llamacpp:
            fields["max_model_len"] = str(n)
        return replace(q, largest=None, **fields)

    @cache
    def fits(n: int) -> Fit | None:
        most = layers if q.largest == "gpu-layers" else MAX_SEQUENCES if llamacpp and q.largest == "batch-size" else n
        return None if n > most else fit_in(with_(n))

    def fit(n: int) -> Fit | None:
        return fits(round_up(n, SMALL_PAD) if q.largest == "ctx-size" else n)

    node, said = _found(q, str(q.gpu or card.name), fit)
    shown = answered("memory", with_(max(1, int(node.children[0].value))))
    assert shown is not None
    return shown._replace(body=(node, *shown.body), brief=(node, *shown.brief), verdict=said)


def served(q: Memory) -> bool:
    """Whether ``--largest`` is asked of a serving engine."""
    return not q.training and engine_of(q) not in OWN


def _check(q: Memory, names: tuple[str, ...], card: Card) -> None:
    if q.largest not in names:
        raise InputError(f"--largest {q.largest}: one of {', '.join(names)}")
    if card.bytes is None:
        raise InputError("--largest needs --gpu: what it must fit")


def _found(
    q: Memory, card: str, fit: Callable[[int], Fit | None], ripple: tuple[int, int] = (1, 0)
) -> tuple[Node, str]:
    """(the rows, a sentence): the most for which the answer is not no, and the most for which it is yes."""
    name = str(q.largest)
    field, unit = FIELDS[name]
    asked = cache(fit)

    def missing(end: str, n: int) -> int:
        found = asked(n) if n <= MOST else None
        return aim.LIMIT if found is None else int(value_of(getattr(found.need, end))) - found.have

    most, sure = (aim.longest(partial(missing, end), 0, ripple) or 0 for end in ("low", "high"))
    flag = f"--{name}"
    positions = q.model.architecture.max_positions
    beyond = name in ("seq-len", "ctx-size") and positions is not None and most > positions
    note = f"the model has {positions:,} positions" if beyond else ""
    note = "the search ends here: nothing that grows with it was found" if most >= MOST else note
    rows = [
        Node(f"largest.{field}", f"Largest {flag} that fits", most, unit, note=note),
        Node(f"largest.{field}.sure", "that fits with the most that was measured", sure, unit),
    ]
    said = f"Largest {flag} that fits {card}: {most:,} (surely up to {sure:,})."
    if most == 0:
        said = f"No {flag} fits {card}: not even 1."
    return Node.group("", rows), said + (f" Beyond the model's {positions:,} positions." if beyond else "")
