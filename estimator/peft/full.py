"""Full training: every parameter is trained.

Source: the model's own weights, a tied one once.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """Every weight of the model."""
    for w in b.arch.weights():
        b.unfrozen.append(PeftTensor(w.module, w.name.rpartition(".")[2], w.shape, w.times))
    return
    yield


METHOD = Method(
    name="full",
    title="Full training",
    cite="the model's own weights",
    build=build,
    rank="",
    library=False,
    simulated=True,
)
