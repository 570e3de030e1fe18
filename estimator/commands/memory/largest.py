"""The question the other way round: the largest batch, sequence or rank whose run fits the card."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from estimator.card import Card
from estimator.commands.kvcache.fit import longest
from estimator.commands.memory.plan import plan, simulate
from estimator.commands.memory.question import Memory
from estimator.errors import InputError
from estimator.fit import NO, YES, fit_of
from estimator.report import Node
from estimator.trace import value_of
from estimator.units import COUNT, TOKENS

FIELDS = {"batch-size": ("batch_size", COUNT), "seq-len": ("seq_len", TOKENS), "rank": ("rank", COUNT)}
MOST = 2**24  # no batch, sequence or rank comes near


def largest(q: Memory, card: Card) -> tuple[Node, str]:
    """(the rows, a sentence) of ``--largest``: the largest that fits, exact, and the largest that surely does.

    One more than the first does not fit; up to the second the whole range of the need lies within the card. Raises
    InputError for an option that is not searched, or without a card.
    """
    name = str(q.largest)
    if name not in FIELDS:
        raise InputError(f"--largest {name}: one of {', '.join(FIELDS)}")
    if card.bytes is None:
        raise InputError("--largest needs --gpu: what it must fit")
    field, unit = FIELDS[name]

    @cache
    def answer(n: int) -> str:
        if n > MOST:
            return NO
        p = plan(replace(q, **{field: n, "largest": None}))
        fit = fit_of(int(value_of(simulate(p).worst.peak)), card, p.mode)
        return NO if fit is None else fit.answer

    most, sure = longest(lambda n: answer(n) != NO), longest(lambda n: answer(n) == YES)
    assert most is not None
    assert sure is not None
    flag = f"--{name}"
    positions = q.model.architecture.max_positions
    beyond = name == "seq-len" and positions is not None and most > positions
    note = f"the model has {positions:,} positions" if beyond else ""
    rows = [
        Node(f"largest.{field}", f"Largest {flag} that fits", most, unit, note=note),
        Node(f"largest.{field}.sure", "that fits with the most fragmentation measured", sure, unit),
    ]
    said = f"Largest {flag} that fits {card.name}: {most:,} (surely up to {sure:,})."
    if most == 0:
        said = f"No {flag} fits {card.name}: not even 1."
    return Node.group("", rows), said + (f" Beyond the model's {positions:,} positions." if beyond else "")
