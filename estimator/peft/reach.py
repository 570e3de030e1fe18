"""Which layers of a stack an adapter reaches: nothing below the first is differentiated, some may hold only a part."""

from __future__ import annotations

from typing import Any

from estimator.config import MAX_LAYERS
from estimator.errors import InputError
from estimator.families.base import Architecture, Layer
from estimator.peft.base import Adapter
from estimator.stack.machine import Machine
from estimator.stack.model import Segment
from estimator.trace import value_of

# a layer, the adapted modules it has no adapters of (of those that differ, with which of them), whether it trains
Kind = tuple[Layer, frozenset[Any], bool]


def by_reach(arch: Architecture, adapter: Adapter, m: Machine) -> list[Segment] | None:
    """The layers below the first that trains, that one, and those above it; None where all layers train alike."""
    kinds = _kinds(arch, adapter, m)
    order = sorted(kinds)
    start = next((i for i in order if kinds[i][2]), None)
    if start is None or (start == order[0] and not any(missing for _, missing, _ in kinds.values())):
        return None
    out: list[Segment] = []
    for part in ([i for i in order if i < start], [start], [i for i in order if i > start]):
        groups: dict[tuple[int, frozenset[Any]], list[int]] = {}
        for i in part:
            groups.setdefault((id(kinds[i][0]), kinds[i][1]), []).append(i)
        for at in groups.values():
            layer, missing, _ = kinds[at[0]]
            first = 0 if out else 1  # what comes before the first layer is no layer
            out += [Segment(layer, n, None, missing) for n in (first, len(at) - first) if n]
    return out


def _kinds(arch: Architecture, adapter: Adapter, m: Machine) -> dict[int, Kind]:
    """Every layer by its number; empty for what is not one stack of layers of their own."""
    partial: dict[str, set[int]] = {}
    for name, layers in [*((m.name, m.layers) for m in adapter.targets),
                         *((t.module, t.layers) for t in adapter.tensors if adapter.method.around)]:  # fmt: skip
        if layers is not None:
            partial.setdefault(name, set()).update(layers)
    if arch.kind == "encoder-decoder" or any(x.shared for x in arch.layers):
        return {}
    if not partial and not m.varied and len(arch.layers) == 1:
        return {}
    kinds: dict[int, Kind] = {}
    for layer in arch.layers:
        if value_of(layer.times) > MAX_LAYERS:
            raise InputError(f"num_hidden_layers={int(layer.times)} is out of range (at most {MAX_LAYERS:,})")
        own = {name for w in layer.weights() for name in (w.name, w.module, w.module.rpartition(".")[0])}
        trains = any(m.trains(name) for name in own)
        adapted = own & m.unmet
        for i in layer.indices if layer.indices is not None else range(int(layer.times)):
            missing = frozenset(n for n in adapted if i not in partial.get(n, (i,)))
            kinds[i] = (layer, missing | others(m, adapted, i), trains or bool(adapted - missing))
    return kinds


def others(m: Machine, adapted: set[str], i: int) -> frozenset[tuple[str, int]]:
    """(module, which of its adapters) of those that layer ``i`` does not have, where its adapters differ by layer."""
    return frozenset(
        (name, k)
        for name in adapted & m.varied.keys()
        for k, spec in enumerate((m.varied[name], *m.varied[name].also)) if i not in (spec.layers or (i,))
    )  # fmt: skip
