"""A roofline drawn in characters: arithmetic intensity across, FLOP/s up, both logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log2
from string import ascii_uppercase

from estimator.dtypes import Format
from estimator.presets import load_gpu
from estimator.report import Text
from estimator.trace import value_of
from estimator.units import FLOP_RATE, human
from estimator.work.folds import by_part, moved_elements
from estimator.work.product import Product

WIDTH, HEIGHT = 64, 12
LOW, HIGH = -2, 14  # powers of two of FLOPs a byte
DECADES = 10  # powers of two of FLOP/s that are drawn below the peak


def roofline_text(products: Sequence[Product], training: bool, gpu: str, dtype: str, fmt: Format) -> Text:
    """The parts of a pass under the roof of ``gpu``: its bandwidth's slope and its dense peak in ``dtype``."""
    from estimator.roofline import dense_peak

    spec = load_gpu(gpu)
    peak, bandwidth = dense_peak(spec, dtype), spec.bandwidth_bytes_s
    width = float(fmt.bits_per_weight) / 8
    canvas = [[" "] * WIDTH for _ in range(HEIGHT)]
    top, bottom = log2(peak), log2(peak) - DECADES

    def place(intensity: float, mark: str) -> None:
        x = round((log2(intensity) - LOW) / (HIGH - LOW) * (WIDTH - 1))
        y = round((top - log2(min(peak, bandwidth * intensity))) / (top - bottom) * (HEIGHT - 1))
        if 0 <= x < WIDTH and 0 <= y < HEIGHT:
            canvas[y][x] = mark

    for x in range(WIDTH):
        intensity = 2 ** (LOW + x / (WIDTH - 1) * (HIGH - LOW))
        place(intensity, "─" if bandwidth * intensity >= peak else "╱")
    legend = []
    for mark, group in zip(ascii_uppercase, by_part(products, causal=True), strict=False):
        real = [q for q in group.products if q.operator != "backward"]
        moved = sum(float(value_of(q.times * moved_elements(q))) for q in real) * width
        work = float(value_of(group.forward))
        if moved and work:
            place(work / moved, mark)
            reach = min(1.0, work / moved * bandwidth / peak)
            legend.append(f"  {mark} {group.name}: {work / moved:,.1f} FLOP/B, at most {100 * reach:.3g}% of the peak")
    ridge = peak / bandwidth
    axis = "  " + "".join(f"{2.0**e:<{WIDTH // 8}g}" for e in range(LOW, HIGH, (HIGH - LOW) // 8))
    body = "\n".join("  " + "".join(row).rstrip() for row in canvas)
    words = f"  roof {human(peak, FLOP_RATE)} in {dtype}, ridge at {floor(ridge):,} FLOP/B"
    return Text(
        f"Roofline of {spec.name}, forward products",
        "\n".join([body, axis.rstrip() + "  FLOP/B", words, *legend]) + "\n",
    )
