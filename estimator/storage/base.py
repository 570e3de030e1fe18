"""Weights in storage: what a scheme makes of each, and what a quantiser sees of a stack of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.dtypes import Format
from estimator.errors import InputError
from estimator.families.base import Architecture, MoE
from estimator.formula import Formula
from estimator.inventory import CONV1D, Weight
from estimator.records import dataclass
from estimator.storage.layouts import Layout


@dataclass(frozen=True, slots=True)
class Stored:
    """One weight in storage: ``bytes`` over all its layers.

    A scheme that treats layers apart gives a part for each kind, whose weight names its ``layers``. layout: how a
    quantised matrix lies and what its products run in, None for a plain format or a type of llama.cpp.
    """

    weight: Weight
    format: str
    bytes: Any
    formula: Formula | None = None
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A model's weights in a scheme; ``notes`` says what was assumed.

    scheme: its name, "none" for plain weights; total: bytes as they lie in the file, where its header or its index
    says more than the parts can.
    """

    parts: tuple[Stored, ...]
    notes: tuple[str, ...] = ()
    scheme: str = "none"
    total: int | None = None

    @property
    def bytes(self) -> Any:
        """Bytes of all weights."""
        return self.computed if self.total is None else self.total

    @property
    def computed(self) -> Any:
        """Bytes of the parts."""
        return sum(p.bytes for p in self.parts)

    def by_format(self) -> dict[str, Any]:
        """Format -> bytes, in order of first use."""
        out: dict[str, Any] = {}
        for p in self.parts:
            out[p.format] = out.get(p.format, 0) + p.bytes
        return out


@dataclass(frozen=True, slots=True)
class Matrices:
    """A weight as what a quantiser sees: ``count`` matrices a layer, each of n_in inputs and n_out outputs."""

    count: Any
    n_in: Any
    n_out: Any


def moe_of(arch: Architecture) -> MoE | None:
    """The mixture of experts of the first layer that has one."""
    return next((layer.mlp for layer in arch.layers if isinstance(layer.mlp, MoE)), None)


def matrices(w: Weight, moe: MoE | None) -> Matrices:
    """The matrices of a weight: a fused gate_up of a stack of experts is two for each expert."""
    if len(w.shape) == 3 and moe is not None:
        count, first, second = w.shape
        down = "down" in w.name or ".w2" in w.name
        n_in = moe.width if down else moe.d
        n_out = second if first == n_in and second != n_in else first
        fused = not down and n_out == 2 * moe.width
        return Matrices(count * 2, n_in, moe.width) if fused else Matrices(count, n_in, n_out)
    if len(w.shape) != 2:
        raise InputError(f"{w.name}: stacked weights without a family: how they quantise is not known")
    first, second = w.shape
    return Matrices(1, first, second) if w.role == CONV1D else Matrices(1, second, first)


def layers_of(w: Weight) -> Iterator[int]:
    """The indices of the layers that hold a weight."""
    yield from w.layers if w.layers is not None else range(int(w.times))


def plain(w: Weight, fmt: Format) -> Stored:
    """A weight in a plain format."""
    return Stored(w, fmt.name, w.times * fmt.bytes(w.elements))
