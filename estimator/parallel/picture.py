"""A drawing of who holds what: a bar a GPU, as long as the whole model's states, filled where this GPU has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from estimator.parallel.sharding import GRADIENTS, OPTIMIZER, SHARDED, WEIGHTS

WIDTH = 16  # cells of a bar; four bars, their gaps and the label fit in 80 columns
INK = {WEIGHTS: "█", GRADIENTS: "▓", OPTIMIZER: "▒"}
EMPTY = "·"
OUTSIDE = "-"


def picture(
    widths: dict[str, int], shards: int, stages: Sequence[int], outside: Mapping[int, frozenset[str]] | None = None
) -> str:
    """One line a stage.

    ``widths``: bytes a parameter of each kind; ``shards``: GPUs over which a stage shards; ``outside``: what each stage
    offloads, drawn as holes on every GPU.
    """
    outside = outside or {}
    shown = list(range(shards)) if shards <= 4 else [0, 1, 2, shards - 1]
    cells = _cells(widths)
    head = " " * 8 + " ".join(f"{'GPU ' + str(i):<{WIDTH}}" for i in shown).rstrip()
    lines = [head]
    for stage in stages:
        bars = []
        for i in shown:
            bars.append(
                "".join(
                    OUTSIDE * n
                    if part in outside.get(stage, ())
                    else _part(part, n, i, shards, part in SHARDED[stage])
                    for part, n in cells.items()
                )
            )
        lines.append(f"stage {stage} " + " ".join(bars))
    total = sum(widths.values())
    legend = ", ".join(f"{INK[part]} {part} {n}/{total}" for part, n in widths.items() if n)
    holes = [f"{EMPTY} on another GPU", *([f"{OUTSIDE} offloaded"] if any(outside.values()) else [])]
    if shards > 4:
        holes.append(f"GPUs 3 to {shards - 2} alike" if shards > 5 else f"GPU {shards - 2} alike")
    return "\n".join([*lines, f"{' ' * 8}{legend} of the bytes", " " * 8 + "; ".join(holes)])


def _cells(widths: dict[str, int]) -> dict[str, int]:
    """Cells of a bar for each kind, at least one where there is any of it."""
    total = sum(widths.values())
    cells = {part: max(1, round(WIDTH * n / total)) if n else 0 for part, n in widths.items()}
    largest = max(cells, key=lambda part: cells[part])
    cells[largest] += WIDTH - sum(cells.values())
    return cells


def _part(part: str, cells: int, gpu: int, shards: int, sharded: bool) -> str:
    if not sharded or shards == 1:
        return INK[part] * cells
    first = gpu * cells // shards
    last = max(first + 1, (gpu + 1) * cells // shards)
    if cells == 0:
        return ""
    return EMPTY * first + INK[part] * (last - first) + EMPTY * (cells - last)
