"""What FSDP gathers together: a layer's parameters, a table's, or the root's, and rank 0's part of each.

Sources: torch/distributed/fsdp/_fully_shard/{_fsdp_param,_fsdp_param_group}.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture, Layer, Linear, Lookup
from estimator.inventory import EMBEDDING, Weight
from estimator.ops import ceil_div
from estimator.peft.base import TRAINED
from estimator.records import dataclass
from estimator.stack.packed import is_packed
from estimator.stack.tape import Tensor
from estimator.trace import value_of


def cut(shape: tuple[Any, ...], over: Any) -> tuple[Any, ...]:
    """Rank 0's part of a tensor that is cut along its first dimension, the rounded-up one."""
    return (ceil_div(shape[0], over), *shape[1:])


def elements(shape: tuple[Any, ...]) -> Any:
    out: Any = 1
    for x in shape:
        out = out * x
    return out


TABLES, KEPT = "tables", "kept"
Unit = Layer | Lookup | Linear  # what is gathered together


def apart(arch: Architecture) -> tuple[Lookup, Linear]:
    """The token table and the output matrix, which torchtune's custom_sharded_layers make units."""
    table = next((x for x in arch.embeddings if isinstance(x, Lookup) and x.role == EMBEDDING), None)
    if table is None or arch.head is None:
        raise InputError(f"--fsdp-wrap {TABLES}: the output matrix is the token table, which is one unit's alone")
    return table, arch.head


@dataclass(slots=True)
class FsdpGroup:
    """Parameters that are gathered and reduced together: one layer's, or the root's (everything else).

    parts     (shape, bytes of an element where it computes, bytes of one of its shard) of each parameter
    trained   shapes of those that train
    """

    parts: tuple[tuple[tuple[Any, ...], int, int], ...]
    label: str
    trained: tuple[tuple[Any, ...], ...]
    leaves: list[Any] = field(default_factory=list)
    gathered: Tensor | None = None
    whole: list[Tensor] = field(default_factory=list)

    def gathered_bytes(self, over: Any) -> Any:
        """Bytes of one GPU's share of the flat buffer that is gathered, padded."""
        return sum(width * elements(cut(shape, over)) for shape, width, _ in self.parts)

    @property
    def converted(self) -> bool:
        """Whether the shards are stored in another width than they are gathered in."""
        return any(width != own for _, width, own in self.parts)


class Parts:
    """Which parameters a layer holds under FSDP2, the base's and the adapter's, and which are left to the root.

    A quantised weight is cut as its packed bytes are; its scales are no parameters, so every GPU has them whole.
    """

    def __init__(self, arch: Architecture, load: Any, width: int) -> None:
        self.width, self.own, self.over = width, load.width, load.gpus
        self.packed = {w.name for w in arch.weights() if is_packed(w, load)}
        self.arch, self.adapter, self.adapter_own = arch, load.adapter, load.adapter_width
        self.adapter_width = min(width, load.adapter_width)
        if load.adapter is None:
            self.trained = {w.name for w in arch.weights()}
        else:
            self.trained = {f"{t.module}.{t.name}" if t.module else t.name for t in load.adapter.unfrozen}
        units: list[Unit] = [*arch.layers, *(apart(arch) if load.wrap == TABLES else ())]
        self.inner = [({w.name for w in x.weights()}, {w.module for w in x.weights()}) for x in units]

    def group(self, layer: Unit | None) -> FsdpGroup:
        """One unit's parameters; of None, what belongs to none."""
        if layer is None:
            names = set().union(*(n for n, _ in self.inner))
            weights = [w for w in self.arch.weights() if w.name not in names]
            modules = set().union(*(m for _, m in self.inner))
            added = [t for t in self.added() if t.module not in modules]
        else:
            weights = [Weight(w.name, w.shape) for w in layer.weights()]
            modules = {w.module for w in weights}
            added = [t for t in self.added() if t.module in modules]
        parts = [self.part(w) for w in weights for _ in range(int(value_of(w.times)))]
        parts += [(t.shape, self.adapter_width, self.adapter_own) for t in added]
        trained = [w.shape for w in weights if w.name in self.trained]
        trained += [t.shape for t in added if t.state == TRAINED]
        return FsdpGroup(tuple(parts), "root" if layer is None else "layer", tuple(trained))

    def added(self) -> Sequence[Any]:
        return () if self.adapter is None else self.adapter.tensors

    def part(self, w: Weight) -> tuple[tuple[Any, ...], int, int]:
        return (packed_shape(w), 1, 1) if w.name in self.packed else (w.shape, self.width, self.own)


def packed_shape(w: Weight) -> tuple[Any, ...]:
    """bitsandbytes' Params4bit: a column of bytes, two weights each."""
    return (ceil_div(w.elements, 2), 1)


__all__ = ["KEPT", "TABLES", "FsdpGroup", "Parts", "Unit", "apart", "cut", "elements", "packed_shape"]
