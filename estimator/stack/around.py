"""An attention with an adapter around it, that states its own operations: what its ``around`` is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.families.base import Attention, Linear
from estimator.stack.adapted import AdapterTensor
from estimator.stack.layers import attention
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.tape import Param, Tape, Tensor


class AdaptedAttention:
    """One adapted attention as it runs.

    m, t, x    the run, its tape, the attention's input
    a, at      the attention, and where it stands (its rotary table, its mask)
    args       the method's arguments
    """

    __slots__ = ("_held", "a", "args", "at", "m", "t", "x")

    def __init__(self, m: Machine, x: Tensor, a: Attention, at: Any, args: Any, held: dict[str, AdapterTensor]) -> None:
        self.m, self.x, self.a, self.at, self.args, self._held = m, x, a, at, args, held
        self.t: Tape = m.t

    def p(self, name: str) -> Param:
        """The adapter's tensor called ``name``, in the model's format."""
        own = self._held[name]
        return self.m.param(f"{own.module}.{name}", own.n, self.m.w, own.trains and self.m.training)

    def shape(self, name: str) -> tuple[Any, ...]:
        """The shape of the tensor called ``name``."""
        return self._held[name].shape

    def inner(self) -> Tensor:
        """The attention itself."""
        return attention(self.m, self.x, self.a, self.at)

    def linear(self, x: Tensor, lin: Linear, rows: Any = None) -> Tensor:
        """One of the attention's own matrices, of ``rows`` tokens (all)."""
        return linear(self.m, x, lin, rows)


Around = Callable[[AdaptedAttention], Tensor]


def run(around: Around, args: Any, held: dict[str, AdapterTensor], m: Machine, x: Tensor, a: Attention,
        at: Any) -> Tensor:  # fmt: skip
    """The adapted attention's output."""
    return around(AdaptedAttention(m, x, a, at, args, held))
