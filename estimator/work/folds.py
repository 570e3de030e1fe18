"""Folds over a list of products: FLOPs by part, operator and layer, bytes moved, arithmetic intensity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from estimator.records import dataclass
from estimator.work import product as p
from estimator.work.product import Product

OPERATORS = {
    "linear": "matrix products (linear layers)",
    "experts": "grouped products (routed experts)",
    "bmm": "batched products (attention, scans)",
    "sdpa": "fused attention kernel",
    "conv": "depthwise convolutions",
    "convolution": "convolutions (patches, frames)",
    "backward": "products only in the backward pass",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Products under one heading, and their sums in one convention of attention (``causal``)."""

    name: str
    products: tuple[Product, ...]
    causal: bool

    @property
    def forward(self) -> Any:
        return sum((q.forward(self.causal) for q in self.products), start=0)

    @property
    def backward(self) -> Any:
        return sum((q.backward(self.causal) for q in self.products), start=0)

    @property
    def recompute(self) -> Any:
        return sum((q.recompute(self.causal) for q in self.products), start=0)

    @property
    def total(self) -> Any:
        return self.forward + self.backward + self.recompute

    @property
    def overcount(self) -> Any:
        """What FlopCounterMode counts beyond the real products (included in ``backward``)."""
        return sum((q.times * q.overcount for q in self.products), start=0)

    @property
    def model(self) -> Any:
        """Forward and gradient products, without anything that is computed twice and without miscounts: MFU's FLOPs."""
        again = sum((q.times * q.again * q.flops(self.causal) for q in self.products), start=0)
        return self.forward + self.backward - again - self.overcount

    @property
    def hardware(self) -> Any:
        """What the device executes, recomputation included: HFU's FLOPs."""
        return self.total - self.overcount


def grouped(
    products: Iterable[Product], key: Callable[[Product], str], order: Iterable[str], causal: bool
) -> list[Group]:
    """The products under ``key``'s headings: those of ``order`` first, empty ones left out."""
    found: dict[str, list[Product]] = {name: [] for name in order}
    for q in products:
        found.setdefault(key(q), []).append(q)
    return [Group(name, tuple(rows), causal) for name, rows in found.items() if rows]


def by_part(products: Iterable[Product], causal: bool = False) -> list[Group]:
    """Attention projections, attention, MLP, experts, head ..."""
    return grouped(products, lambda q: q.part, p.PARTS, causal)


def by_operator(products: Iterable[Product], causal: bool = False) -> list[Group]:
    """Linear layers, batched products, fused attention, convolutions."""
    return grouped(products, lambda q: q.operator, OPERATORS, causal)


def moved_elements(q: Product) -> Any:
    """Elements that one product of one layer reads and writes, each once: both operands and the result.

    The fused attention kernel keeps its scores on the chip, so only queries, keys, values and the output count.
    Of stored weights (``weight``) only those that are used are read, once whatever the rows.
    """
    left, right, out = q.m * q.k, q.k * q.n, q.m * q.n
    if q.operator == "sdpa":
        return q.count * (left + right) if q.name.endswith(".scores") else q.count * (right + out)
    if q.operator == "conv":
        return q.count * (q.m + q.m) + q.weight
    return q.count * (left + out) + (q.weight if q.weight else q.count * right)
