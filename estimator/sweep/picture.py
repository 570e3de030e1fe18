"""The rows of a sweep drawn: its results against the swept size, a line for every combination of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.sweep.grid import SweptAxis
from estimator.units import byte_unit

if TYPE_CHECKING:
    from estimator.render.plots import Figure, Series

MOST_LINES, MOST_ROWS = 24, 100_000
FEW = 10  # values that a linear axis shows well; more, or ones that span decades, stand on a logarithmic one


def rows_drawn(
    title: str, axes: Sequence[SweptAxis], header: Sequence[str], keys: Sequence[str] | None,
    chunks: Iterator[dict[str, Any]],
) -> Figure:  # fmt: skip
    """``keys`` against the size with the most values. A key that is the same on every line is drawn once, dashed.

    InputError where nothing is swept, where keys are not named or are no numbers, or where there are too many lines.
    """
    from estimator.render.plots import Axis, Figure

    sizes = [a for a in axes if all(type(v) in (int, float) and v > 0 for v in a.values)]
    if not sizes or not keys:
        raise InputError("--plot needs a size to draw against and what to draw: --seq-len 1k:32k:x2 --keys need_bytes")
    across = max(sizes, key=lambda a: len(a.values))
    others = [a.name for a in axes if a is not across]
    lines: dict[str, dict[tuple[Any, ...], list[tuple[float, float]]]] = {k: {} for k in keys}
    rows = 0
    for chunk in chunks:
        columns = {k: list(chunk[k]) for k in header}
        rows += len(columns[across.name])
        if rows > MOST_ROWS:
            raise InputError(f"--plot: more than {MOST_ROWS:,} rows are a blur: fewer values, or --output FILE.csv")
        for i, x in enumerate(columns[across.name]):
            which = tuple(columns[name][i] for name in others)
            for key in keys:
                lines[key].setdefault(which, []).append((float(x), _number(key, columns[key][i])))
    series = list(_series(lines, others))
    if len(series) > MOST_LINES:
        raise InputError(f"--plot: {len(series)} lines are too many to tell apart; {MOST_LINES} at most")
    top = max((y for s in series for y in s.y), default=0.0)
    in_bytes = all(k.endswith("bytes") or "_bytes." in k for k in keys)
    unit, word = (1.0, "") if not in_bytes else byte_unit(top)
    series = [s.scaled(unit) for s in series]
    first, last = min(across.values), max(across.values)
    wide = len(across.values) > 1 and last / first >= 2 * FEW
    label = "--" + across.name.replace("_", "-")
    what = " and ".join(keys) + (f", {word}" if word else "")
    y = Axis(what, 0, 1.08 * top / unit or 1.0, False)
    return Figure(title, Axis(label, first, max(last, first + 1), wide), y, tuple(series))


def _number(key: str, value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, str):
        raise InputError(f"--plot: {key} is no number: {value[:40]!r}")
    return float(value)


def _series(lines: dict[str, dict[tuple[Any, ...], list[tuple[float, float]]]], others: list[str]) -> Iterator[Series]:
    from estimator.render.plots import Series

    same = {k for k, found in lines.items() if len(found) > 1 and len({tuple(sorted(p)) for p in found.values()}) == 1}
    same = same if len(same) < len(lines) else set()
    colour = 0
    for key, found in lines.items():
        for which, points in list(found.items())[: 1 if key in same else None]:
            words = [str(v) for v in which] if key not in same else []
            if key in same or not words or len(lines) - len(same) > 1:
                words.append(key)
            xs, ys = zip(*sorted(points), strict=True)
            yield Series(" ".join(words), xs, ys, "dash" if key in same else "line", None if key in same else colour)
            colour += key not in same
