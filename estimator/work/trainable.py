"""What a training run trains: weights by name, adapters beside linear layers, and from which layer on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Factor:
    """One matrix of an adapter, [d_in, d_out].

    rows     rows that it multiplies; None: every token that passes through the module
    count    products of this size
    right    whether it is trained; left: whether its left operand needs a gradient whatever the module's input does
    """

    d_in: Any
    d_out: Any
    right: bool = True
    rows: Any = None
    count: Any = 1
    left: bool = False


Chain = tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Trainable:
    """weight    whether a weight (by its pattern's name) is trained, in layers from ``first`` on
    beside      module or stacked parameter -> its adapters, each a chain of factors that the input passes through
    layers      module -> the layers that hold its adapter, where not all do
    rewritten   frozen weights that an adapter changes before they multiply: their gradient is computed too
    touched     modules whose output requires a gradient through an adapter with no products of its own listed
    first       the lowest layer in which ``weight`` and adapters hold
    inputs      True where the embeddings' output requires a gradient whatever is trained (prompt embeddings)
    virtual     virtual tokens that a prompt adapter puts before every sequence
    prefix      virtual tokens that a prefix adapter puts before every layer's keys and values
    """

    weight: Callable[[str], bool]
    beside: Mapping[str, tuple[Chain, ...]] = field(default_factory=dict)
    layers: Mapping[str, frozenset[int]] = field(default_factory=dict)
    rewritten: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    first: Any = 0
    inputs: bool = False
    virtual: Any = 0
    prefix: Any = 0

    def adapters(self, module: str) -> tuple[Chain, ...]:
        """The adapters of a module."""
        return self.beside.get(module, ())

    def still(self) -> Trainable:
        """The same adapters with nothing trained: what a pass without gradients runs."""

        def fixed(f: Factor) -> Factor:
            return replace(f, left=False, right=False)

        beside = {name: tuple(tuple(map(fixed, chain)) for chain in chains) for name, chains in self.beside.items()}
        return replace(self, weight=nothing, beside=beside, rewritten=frozenset(), touched=frozenset(), inputs=False)

    def differentiates(self, name: str) -> bool:
        """Whether the gradient of the weight ``name`` is computed."""
        return self.weight(name) or name in self.rewritten


def everything(name: str) -> bool:
    """Full training."""
    return True


def nothing(name: str) -> bool:
    """A frozen base, or no training at all."""
    return False


FULL = Trainable(everything)
NONE = Trainable(nothing)
