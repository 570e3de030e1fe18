"""The trained tensors one by one, in the order in which a model registers them."""

from __future__ import annotations

from collections.abc import Sequence

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
        most = max((int(value_of(t.times)) for t in trained), default=0)
        return [_one(t) for i in range(most) for t in trained if i < int(value_of(t.times))]
    rest = iter(trained)
    before = [next(rest) for part in (*arch.embeddings, *arch.encoder_embeddings) for _ in part.weights()]
    inner = {id(layer): [next(rest) for _ in layer.weights()] for layer in arch.layers}
    out = [_one(t) for t in before for _ in range(int(value_of(t.times)))]
    seen: set[int] = set()
    for layer in sequence(arch):
        if layer.shared and id(layer) in seen:
            continue
        seen.add(id(layer))
        count = 1 if layer.shared else int(value_of(layer.times))
        out += [_one(t) for t in inner[id(layer)] for _ in range(int(value_of(t.times)) // count)]
    return [*out, *(_one(t) for t in rest for _ in range(int(value_of(t.times))))]


def _one(t: Trained) -> Trained:
    return Trained(t.shape, t.width, 1, t.matrix)


__all__ = ["in_order"]
