"""Numbers that stand for letters while an answer in letters is made: they decide which branch is taken, never more.

An answer in letters is made twice, with two sets of stand-ins, and the expressions of the first must give the numbers
of the second (:func:`check_elsewhere`): a stand-in that found its way into an expression, a divisor that only this
width has, a part that was rounded, are then a refusal and not an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from estimator.errors import InputError
from estimator.report import Cell, Report, Table
from estimator.trace import Traced, adopt, bindings, forget, known, value_of

# powers of two divide each other; field -> (number, the number it is in the second run)
_NUMBERS: dict[str, tuple[int, int]] = {
    "num_hidden_layers": (32, 64),
    "hidden_size": (4096, 16384),
    "num_attention_heads": (32, 64),
    "params": (2**40, 2**42),
    "largest_layer": (2**20, 2**21),
    "batch_size": (2, 4),
    "seq_len": (1024, 4096),
    "encoder_len": (1024, 2048),
    "rank": (8, 32),
    "gpus": (64, 512),
    "tensor_parallel": (2, 4),
    "pipeline_parallel": (2, 4),
    "context_parallel": (2, 4),
    "expert_parallel": (2, 4),
    "micro_batches": (8, 16),
    "trainable_layers": (2, 4),
    "num_virtual_tokens": (20, 40),
    "d_out": (97, 389),  # of one matrix: no power of two, so that a rank that is solved for keeps its floor
}
_OTHERS = (64, 256)
_SECOND: ContextVar[bool] = ContextVar("second", default=False)


def stand_in(field: str) -> int:
    """The number that stands for a letter of this field."""
    return _NUMBERS.get(field, _OTHERS)[_SECOND.get()]


@contextmanager
def _second() -> Iterator[None]:
    """Inside, letters stand for other numbers; the letters outside are as they were afterwards."""
    kept, token = known(), _SECOND.set(True)
    forget()
    try:
        yield
    finally:
        _SECOND.reset(token)
        forget()
        adopt(kept)


def _values(report: Report) -> list[tuple[str, Any]]:
    """(what it is called, value) of everything that the report prints as an expression."""
    out = [(n.label, n.value) for n in report.nodes() if n.unit is not None]
    for part in report.body:
        if isinstance(part, Table):
            out += [(part.title or part.columns[i], c.value)
                    for row in part.rows for i, c in enumerate(row) if isinstance(c, Cell)]  # fmt: skip
    return out


def check_elsewhere(report: Report, again: Callable[[], Report]) -> None:
    """InputError where an answer in letters is not one: its expressions give other numbers at other sizes.

    again: asks the same question once more.
    """
    from sympy import sympify

    with _second():
        second, numbers = _values(again()), bindings()
    first = _values(report)
    for (label, here), (_, there) in zip(first, second, strict=len(first) == len(second)):
        got = value_of(here)
        if isinstance(here, Traced):
            expr = sympify(here.expr)
            got = expr.subs({s: numbers[s.name] for s in expr.free_symbols if s.name in numbers})
        want = value_of(there)
        same = got == want or (isinstance(want, float) and abs(complex(got) - want) <= 1e-9 * abs(want))
        if not same:
            raise InputError(
                f"{label[:80]}: depends on the sizes themselves (their divisors, their rounding, a share of them) and "
                "has no form in letters; give a model of known sizes"
            )
