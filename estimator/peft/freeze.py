"""Freezing: only the top layers of the model are trained, the rest stays.

Source: Howard and Ruder 2018, arXiv 1801.06146 (training the last layers); the counts are the model's own weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import Build, Method, PeftTensor
from estimator.trace import value_of


def build(b: Build) -> Iterator[PeftTensor]:
    """The weights of the last ``trainable_layers`` layers; embeddings, final norm and head stay frozen."""
    top = b.args.count("trainable_layers")
    stack = [m for m in b.known if m.layered and not m.name.startswith("encoder.")] or [m for m in b.known if m.layered]
    count = b.arch.num_layers
    if top > count:
        raise InputError(f"--trainable-layers {int(top)}: {b.model} has {int(value_of(count))} layers")
    first = int(value_of(count)) - int(value_of(top))
    for m in stack:
        whole = m.times == count and m.layers is None
        times = top if whole else sum(1 for i in m.indices if i >= first)
        for name, shape in m.weights:
            if times:
                b.unfrozen.append(PeftTensor(m.name, name, shape, times))
    b.targets = []
    return
    yield


METHOD = Method(
    name="freeze",
    title="Training the top layers",
    cite="Howard and Ruder 2018, arXiv 1801.06146",
    build=build,
    args={"trainable_layers": 1},
    rank="",
    library=False,
    simulated=True,
)
