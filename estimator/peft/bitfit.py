"""BitFit: only the biases are trained.

Source: Ben Zaken et al. 2022, arXiv 2106.10199.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """Every parameter whose name ends with ``bias``; a tied one once."""
    for w in b.arch.weights():
        if w.name.endswith("bias"):
            b.unfrozen.append(PeftTensor(w.module, w.name.rpartition(".")[2], w.shape, w.times))
    if not b.unfrozen:
        b.notes.append(f"{b.model} has no biases: BitFit trains nothing")
    return
    yield


METHOD = Method(
    name="bitfit",
    title="BitFit",
    cite="Ben Zaken et al. 2022, arXiv 2106.10199",
    build=build,
    rank="",
    library=False,
    simulated=True,
)
