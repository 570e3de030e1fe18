"""What a run that derives takes as a letter: what a server reads, lays out, measures or was fitted to.

The arithmetic on them is the engines' own, on traced numbers; what the letters come to is what a run
without them says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from estimator.families.base import Attention
from estimator.records import NamedTuple
from estimator.trace import Traced, trace, value_of
from estimator.units import BITS_PER_BYTE
from estimator.work.times import Times
from estimator.working import Form, Step, Working, alike, over, plus, times

if TYPE_CHECKING:
    from estimator.engines.asked import ServerAsked

MEMORY, WEIGHTS, ACTIVATION, BESIDE, DRAWN = "M", "W", "A", "O", "G"
MEANT = {
    MEMORY: "memory that the card's driver reports",
    WEIGHTS: "weights of a rank, as the allocator counts them",
    ACTIVATION: "activations of the trial run: laid out, with fitted constants",
    BESIDE: "outside the allocator: measured",
    DRAWN: "CUDA graphs as the engine estimates them: fitted",
}


def lettered(asked: ServerAsked, letter: str, value: Any) -> Any:
    """``value`` under a letter in a run that derives, else as it is."""
    return trace(letter, value) if asked.derives and value is not None else value


def share_of(n: Any, share: Fraction) -> Any:
    """The whole bytes of a share of ``n``, rounded towards 0."""
    return -share_of(-n, share) if n < 0 else n * share.numerator // share.denominator


def share_form(form: Any, share: Fraction, n: Any) -> Any:
    """How :func:`share_of` ``n``, whose letters are ``form``'s, is written down: rounded where it had to be."""
    if share == 1:
        return form
    exact = value_of(n) * share.numerator % share.denominator == 0
    made = over(times(share.numerator, form), share.denominator)
    return made if exact else Form("floor", (made,))


def of_layers(asked: ServerAsked, count: int) -> Any:
    """A number of layers: the model's own letter where it is all of them."""
    every = asked.arch.num_layers
    return every if every == count else count


def is_letter(value: Any) -> bool:
    """Whether a number is a letter of its own, not computed from others."""
    return not isinstance(value, Traced) or bool(value.expr.is_Symbol)


def stated(rule: str, form: Any = None) -> Working:
    """A working that says how a number is known, or what it is made of."""
    return lambda: [Step(rule, form)]


def counted(sizes: Callable[[], Iterable[tuple[str, int]]], whole: Any) -> Working:
    """The tensors of a rank (name, bytes that the allocator counts), counted; ``whole``: what they come to."""

    def steps() -> list[Step]:
        counts = Counter((_tail(name), size) for name, size in sizes() if size)
        if sum(size * many for (_, size), many in counts.items()) != value_of(whole):
            return [Step(f"{MEANT[WEIGHTS]}, with those of the draft model")]
        items = alike((name, "", (size,), many) for (name, size), many in counts.items())
        return [Step("the tensors of a rank, bytes each", plus(*(i.term for i in items)), items, WEIGHTS, False)]

    return steps


def _tail(name: str) -> str:
    """A tensor's name without the path to its layer."""
    return name.rpartition("{i}.")[2].removesuffix("#0").removesuffix(".weight")


def a_token(asked: ServerAsked, rows: Iterable[tuple[Any, Any, Attention]]) -> Working:
    """Bytes of a token's keys and values: (layers, heads of a rank, attention) of each kind."""
    width = Fraction(asked.kv_bits, BITS_PER_BYTE)

    def steps() -> list[Step]:
        found = list(rows)
        if any(a.mla is not None for _, _, a in found):
            return [Step("of each layer a latent, which is whole on every rank, and its rotary key")]
        items = []
        for layers, heads, a in found:
            sides = ("keys", a.head_dim), ("values", a.head_dim if a.v_head_dim is None else a.v_head_dim)
            shapes = alike((name, "", (heads, wide), layers) for name, wide in sides)
            items += [x._replace(each=width.numerator if width.denominator == 1 else width) for x in shapes]
        rule = f"of each layer: heads x width, {float(width):g} bytes a number"
        return [Step(rule, plus(*(x.term for x in items)), tuple(items))]

    return steps


def in_blocks(pool: Any, each: Any, blocks: Any, rest: Any = None) -> Working:
    """How many blocks a pool is: whole ones, or the last one begun; ``rest``: what recurrent states leave of it."""
    held = pool if rest is None else rest

    def steps() -> list[Step]:
        down = value_of(held) // value_of(each) == value_of(blocks)
        whole = over(held, each) if value_of(held) % value_of(each) == 0 else Form(
            "floor" if down else "ceiling", (over(held, each),))  # fmt: skip
        what = "the pool" if rest is None else "what recurrent states leave of the pool,"
        return [Step(f"{what} over the bytes of a block, {'whole ones' if down else 'rounded up'}", whole)]

    return lambda: steps() if isinstance(blocks, Traced) and value_of(held) else []


def times_of(blocks: Any, tokens: int, value: Any, rule: str) -> Working:
    """Tokens of the blocks, where the number is that."""
    same = tokens > 1 and value_of(blocks * tokens) == value_of(value)
    return lambda: [Step(rule, times(blocks, tokens))] if same else []


def quotient(a: Any, b: Any, rule: str, whole: Any = None) -> Working:
    """One number over another; ``whole``: rounded down to it."""
    exact = whole is None or not value_of(a) % value_of(b)
    return lambda: [Step(rule, over(a, b) if exact else Form("floor", (over(a, b),)))]


class Term(NamedTuple):
    """A part of a pass: its letter, what it is, and its seconds as the roofline gives them."""

    letter: str
    said: str
    seconds: Any


class Terms:
    """The parts of passes as letters, for a run that derives: what follows from them is worked out in these."""

    def __init__(self) -> None:
        self.found: list[Term] = []

    @property
    def letters(self) -> dict[str, str]:
        """What each letter is."""
        return {t.letter: t.said for t in self.found}

    def of(self, made: Times, what: str) -> Times:
        """A pass whose parts are letters."""
        parts = {}
        for (name, bound), seconds in made.parts.items():
            if value_of(seconds):
                seconds = self.one(seconds, f"{what}: {PARTS.get(name, name)}, bound by {bound}")
            parts[name, bound] = seconds
        return replace(made, parts=parts)

    def one(self, value: Any, said: str) -> Traced:
        """A number as a letter of its own."""
        made = trace(f"t_{len(self.found) + 1}", value_of(value), integer=False)
        self.found.append(Term(str(made.expr), said, value))
        return made

    def working(self, value: Any, rule: str) -> Working:
        """What each part of a pass comes to, then the number that is made of them."""

        def steps() -> list[Step]:
            used = {str(s) for s in value.expr.free_symbols}
            parts = [t for t in self.found if t.letter in used]
            return [*(Step(t.said, _short(t.seconds), (), t.letter, False) for t in parts), Step(rule, value)]

        return steps


PARTS = {"products": "products", "attention": "attention", "elementwise": "what lies between products",
         "kernels": "starting and ending kernels", "links": "all-reduces", "cache": "reading the cache"}  # fmt: skip
_OPERATIONS = 60  # of an expression that is printed


def _short(seconds: Any) -> Any:
    """A part's seconds, where its expression is not a page of its own."""
    long = isinstance(seconds, Traced) and seconds.expr.count_ops() > _OPERATIONS
    return float(value_of(seconds)) if long else seconds
