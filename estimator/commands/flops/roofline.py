"""The parts of a forward pass under a card's roofline: a table, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from estimator.alike import add_up
from estimator.commands.flops.tables import INTENSITY
from estimator.dtypes import Format
from estimator.presets import load_gpu
from estimator.records import NamedTuple
from estimator.report import Cell, Table
from estimator.roofline import dense_peak
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE, BYTES, FLOP_RATE, FLOPS, human
from estimator.work.folds import by_part, moved_elements
from estimator.work.product import Product

if TYPE_CHECKING:
    from estimator.render.plots import Figure


class Roofed(NamedTuple):
    """A part of the pass: its FLOPs and bytes (each operand and result once), FLOPs a byte, and what it may reach.

    rate  FLOP/s at most: the card's bandwidth times the intensity, or its peak
    """

    name: str
    flops: int
    moved: float
    intensity: float
    rate: float


class Roofline(NamedTuple):
    """A card's roof in one type, and the parts below it. peak: FLOP/s; bandwidth: bytes/s."""

    card: str
    dtype: str
    peak: float
    bandwidth: float
    parts: tuple[Roofed, ...]

    @property
    def ridge(self) -> float:
        """FLOPs a byte from which on the peak binds."""
        return self.peak / self.bandwidth

    def table(self) -> Table:
        """A row a part."""
        rows = tuple(
            (p.name, Cell(p.flops, FLOPS), Cell(round(p.moved), BYTES), Cell(p.intensity, INTENSITY),
             Cell(p.rate, FLOP_RATE), f"{100 * p.rate / self.peak:.3g}%")
            for p in self.parts
        )  # fmt: skip
        note = f"roof {human(self.peak, FLOP_RATE)} in {self.dtype}, ridge at {self.ridge:,.0f} FLOP/B"
        columns = ("part, forward", "FLOPs", "bytes", "FLOP/byte", "at most", "of the peak")
        return Table(f"Roofline of {self.card}", columns, rows, note)

    def figure(self) -> Figure:
        """FLOP/s against FLOPs a byte: the roof, and the parts on it."""
        from estimator.render.plots import Axis, Figure, Series

        xs = [p.intensity for p in self.parts]
        low, high = min(0.25, *xs) / 2, max(16 * self.ridge, *xs) * 2
        roof = [(x, min(self.peak, x * self.bandwidth)) for x in (low, self.ridge, high)]
        label = f"{human(self.peak, FLOP_RATE)} in {self.dtype}, {human(round(self.bandwidth), BYTES)}/s"
        series = [Series(label, [x for x, _ in roof], [y for _, y in roof], "line", None, "", 2.2)]
        series += [Series(p.name, [p.intensity], [p.rate], "dot", i, "", 5) for i, p in enumerate(self.parts)]
        return Figure(
            f"Roofline of {self.card}, forward products", Axis("FLOPs a byte", low, high),
            Axis("FLOP/s at most", low * self.bandwidth, 2 * self.peak), tuple(series),
        )  # fmt: skip


def roofline(products: Sequence[Product], causal: bool, gpu: str, dtype: str, fmt: Format) -> Roofline:
    """The parts of a pass under the roof of ``gpu`` in ``dtype``; causal: of attention only unmasked pairs count."""
    spec = load_gpu(gpu)
    peak, bandwidth = float(dense_peak(spec, dtype)), float(spec.bandwidth_bytes_s)
    width = float(fmt.bits_per_weight) / BITS_PER_BYTE
    parts = []
    for group in by_part(products, causal):
        real = [q for q in group.products if q.operator != "backward"]
        moved = add_up(float(value_of(q.times * moved_elements(q))) for q in real) * width
        work = int(value_of(group.forward))
        if moved and work:
            intensity = work / moved
            parts.append(Roofed(group.name, work, moved, intensity, min(peak, bandwidth * intensity)))
    return Roofline(spec.name, dtype, peak, bandwidth, tuple(parts))
