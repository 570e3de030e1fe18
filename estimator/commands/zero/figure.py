"""ZeRO's stages as bars: what the most loaded GPU holds at each, and what the card has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from estimator.errors import InputError
from estimator.report import Node
from estimator.trace import value_of
from estimator.units import BYTES, byte_unit, human

if TYPE_CHECKING:
    from estimator.render.plots import Figure


def stages(title: str, found: dict[int, Node], symbolic: bool, have: int | None, card: str) -> Figure:
    """A bar a stage, of its parts. found: stage -> its nodes; ``have``: bytes of the card, its line."""
    from estimator.render.plots import Axis, Figure, Series

    if symbolic:
        raise InputError("--plot needs a model of known sizes: --model symbolic has none")
    held = {stage: dict(_parts(node)) for stage, node in found.items()}
    unit, word = byte_unit(max(sum(parts.values()) for parts in held.values()))
    places = [float(i) for i in range(1, len(held) + 1)]
    low, series = [0.0] * len(held), []
    for colour, part in enumerate(dict.fromkeys(part for parts in held.values() for part in parts)):
        top = [a + parts.get(part, 0) / unit for a, parts in zip(low, held.values(), strict=True)]
        series.append(Series(part, places, top, "bar", colour, base=low))
        low = top
    high = max(low)
    if have is not None:
        high = max(high, have / unit)
        ends = [0.5, len(held) + 0.5]
        series.append(Series(f"{card}: {human(have, BYTES)}", ends, [have / unit] * 2, "dash", None))
    x = Axis("ZeRO stage", 0.4, len(held) + 0.6, False, tuple(f"stage {s}" for s in held))
    return Figure(title, x, Axis(f"a GPU holds, {word}", 0, 1.08 * high, False), tuple(series))


def _parts(node: Node) -> Sequence[tuple[str, int]]:
    """(label, bytes) of what a stage's total is the sum of: its states, then activations and what is gathered."""
    found = {k.key.partition(".")[2]: k for k in node.walk() if k.key}
    rows = [k for k in found["memory_bytes"].children if value_of(k.value)] or [found["memory_bytes"]]
    rows += [found[key] for key in ("activations_bytes", "gathered_bytes") if key in found]
    return [(k.label, int(value_of(k.value))) for k in rows]
