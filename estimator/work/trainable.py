"""What a training run trains: weights by name, adapters beside linear layers, and from which layer on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# one factor of an adapter: (rows it multiplies, None for every token; d_in; d_out; whether it is trained)
Factor = tuple[Any, Any, Any, bool]
Chain = tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Trainable:
    """weight    whether a weight (by its pattern's name) is trained, in layers from ``first`` on
    beside      module or stacked parameter -> its adapters, each a chain of factors that the input passes through
    layers      module -> the layers that hold its adapter, where not all do
    first       the lowest layer in which ``weight`` and adapters hold
    inputs      True where the embeddings' output requires a gradient whatever is trained (prompt embeddings)
    virtual     virtual tokens that a prompt adapter puts before every sequence
    prefix      virtual tokens that a prefix adapter puts before every layer's keys and values
    """

    weight: Callable[[str], bool]
    beside: Mapping[str, tuple[Chain, ...]] = field(default_factory=dict)
    layers: Mapping[str, frozenset[int]] = field(default_factory=dict)
    first: Any = 0
    inputs: bool = False
    virtual: Any = 0
    prefix: Any = 0

    def adapters(self, module: str) -> tuple[Chain, ...]:
        """The adapters of a module."""
        return self.beside.get(module, ())


def everything(name: str) -> bool:
    """Full training."""
    return True


def nothing(name: str) -> bool:
    """A frozen base, or no training at all."""
    return False


FULL = Trainable(everything)
NONE = Trainable(nothing)
