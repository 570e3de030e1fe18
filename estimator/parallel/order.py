"""The trained tensors one by one, in the order in which a model registers them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from estimator.families.base import Architecture
from estimator.optimizers import Trained
from estimator.parallel.pipeline import sequence
from estimator.trace import value_of


def in_order(arch: Architecture, trained: Sequence[Trained], full: bool = True) -> list[Trained]:
    """Every tensor once: what stands before the layers, layer by layer, what stands after them.

    trained: one entry for each of the weights that the model holds in ``full`` training; an adapter's tensors
    otherwise, which are dealt to the layers as often as they say.
    """
    if not full:
        ones = [(one_of(t), int(value_of(t.times))) for t in trained]
        ends = sorted({0, *(times for _, times in ones)})
        return [t for a, b in pairwise(ends) for t in [one for one, times in ones if times >= b] * (b - a)]
    rest = iter(trained)
    before = [next(rest) for part in (*arch.embeddings, *arch.encoder_embeddings) for _ in part.weights()]
    inner: dict[int, list[Trained]] = {}
    for layer in arch.layers:
        count = 1 if layer.shared else int(value_of(layer.times))
        inner[id(layer)] = _each([next(rest) for _ in layer.weights()], count)
    out = _each(before)
    seen: set[int] = set()
    for layer in sequence(arch):
        if layer.shared and id(layer) in seen:
            continue
        seen.add(id(layer))
        out += inner[id(layer)]
    return out + _each(rest)


def _each(trained: Iterable[Trained], layers: int = 1) -> list[Trained]:
    """Each tensor as often as one of so many layers has it."""
    return [t for one in trained for t in [one_of(one)] * (int(value_of(one.times)) // layers)]


def one_of(t: Trained) -> Trained:
    """One tensor of those that are so many times there."""
    return Trained(t.shape, t.width, 1, t.matrix)
