"""The working of what an adapter trains, stores and costs: its tensors counted, bytes a number, products a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from estimator.dtypes import Format
from estimator.peft.base import FROZEN, TRAINED, Adapter, PeftTensor
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE
from estimator.working import Step, Working, alike, multiple, over, plus, stands, times

EVERY_LAYER = "every layer"
PRODUCT = "a product of m x k by k x n takes 2 m k n FLOPs"


def tensors(found: Iterable[PeftTensor], rule: str, shorten: Callable[[str], str] = lambda name: name) -> Working:
    """The tensors counted: name, shape, how many; tensors of one module stand together."""
    kept = [t for t in found if stands(t.times)]

    def steps() -> list[Step]:
        rows = [(shorten(t.module) or "shared", _part(t.name), t.shape, t.times) for t in kept]
        items = alike(rows)
        return [Step(rule, plus(*(i.term for i in items)), items)] if items else []

    return steps


def _part(name: str) -> str:
    return "" if name == "weight" else name.removesuffix(".weight")


def trained(adapter: Adapter, shorten: Callable[[str], str]) -> Working:
    """Everything that is trained, tensor by tensor."""
    every = [t for t in (*adapter.tensors, *adapter.unfrozen) if t.state == TRAINED]
    rule = f"{adapter.method.title}: the tensors that are trained"
    return tensors(every, rule, shorten)


def held(adapter: Adapter, fmt: Format, base: int, wanted: Callable[[PeftTensor], bool], what: str = "") -> Working:
    """Bytes of the ``wanted`` tensors: their numbers times the bytes of one. ``what``: why there are so many."""

    def steps() -> list[Step]:
        by_width: dict[int, Any] = {}
        for t, bits in adapter.widths(fmt.block_bits, base):
            if wanted(t) and stands(t.elements):
                by_width[bits] = by_width.get(bits, 0) + t.elements
        if not by_width:
            return []
        each = " and ".join(f"{_bytes(bits)} bytes" for bits in by_width)
        name = f"{fmt.name} takes {each} a number" if list(by_width) == [fmt.block_bits] else f"{each} a number"
        return [Step(f"{what}{name}", plus(*(times(_bytes(b), n) for b, n in by_width.items())))]

    return steps


def checkpoint(adapter: Adapter, count: Callable[[Callable[[PeftTensor], bool]], Any], header: Any = 0) -> Working:
    """What is saved: what is trained of it, the rest, and in bytes the header of the file. count: of wanted tensors."""

    def steps() -> list[Step]:
        parts = [count(lambda t: t.saved and t.state == TRAINED), count(lambda t: t.saved and t.state != TRAINED)]
        parts = [x for x in (*parts, header) if stands(x)]
        head = ", and the file's header: names, types, shapes and places" if value_of(header) else ""
        return [Step("what is saved" + head, plus(*parts))] if len(parts) > 1 else []

    return steps


def _bytes(bits: int) -> Any:
    return bits // BITS_PER_BYTE if bits % BITS_PER_BYTE == 0 else Fraction(bits, BITS_PER_BYTE)


def optimizer(name: str, bytes_trained: Any, states: Any) -> Working:
    """States that are whole copies of what is trained: how many numbers a trained one."""
    words = {1: "one number", 2: "two numbers", 3: "three numbers"}
    return multiple(
        states, bytes_trained,
        lambda n: f"{name} holds {words.get(n, f'{n} numbers')} a trained parameter, in its width",
    )  # fmt: skip


def ratio(above: Any, below: Any, rule: str) -> Working:
    """One number over another."""
    return lambda: [Step(rule, over(above, below))]


def percent(adapter: Adapter, base: Any) -> Working:
    """What is trained in percent of all."""
    held = sum((t.elements for t in adapter.tensors if t.state == FROZEN), start=0)
    every = plus(*(x for x in (base, adapter.added_trained, held) if stands(x)))
    rule = "what is trained in percent of all, the adapter's own included"
    return lambda: [Step(rule, over(times(100, adapter.trained), every))]


def work(adapter: Adapter, field: str, rule: str) -> Working:
    """What the targets cost, one by one: ``field`` of a method's work."""

    def steps() -> list[Step]:
        assert adapter.method.work is not None
        found = [(m, getattr(adapter.method.work(m, adapter.args), field)) for m in adapter.targets]
        rows = [(EVERY_LAYER if m.leaf == "{i}" else m.leaf, "", (count,), m.times) for m, count in found]
        items = alike([r for r in rows if stands(r[2][0])])
        return [Step(rule, plus(*(i.term for i in items)), items)] if items else []

    return steps
