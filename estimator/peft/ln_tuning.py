"""LN tuning: trained copies of the normalisations.

Sources: Zhao et al. 2023, arXiv 2312.11420; peft 0.21.2, tuners/ln_tuning/layer.py (any targeted module is
copied whole).
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import TARGETS, Build, Method, PeftTensor
from estimator.peft.extras import buffers, inside
from estimator.peft.modules import CONTAINER, CONV1D, CONVOLUTION, EMBEDDING, HOLDER, LINEAR, NORM
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """A copy of every parameter of every target."""
    if b.asked() == (None, None, False) and b.arch.textbook:
        b.default()
    for m in b.match():
        for part, times in inside(b, m):
            for name, shape in part.weights:
                yield PeftTensor(part.name, f"ln_tuning_layers.{name}", shape, times)
            yield from buffers(b, part, times)


def forward(s: AdaptedLayer) -> Tensor:
    """LNTuningLayer.forward of a linear layer: the copy runs in its place."""
    bias = s.p("ln_tuning_layers.bias") if s.has("ln_tuning_layers.bias") else None
    return s.in_place(s.x, s.p("ln_tuning_layers.weight"), bias)


METHOD = Method(
    name="ln_tuning",
    title="LN tuning",
    cite="Zhao et al. 2023, arXiv 2312.11420; peft 0.21.2, tuners/ln_tuning/layer.py",
    build=build,
    accepts=f"{TARGETS} exclude_modules",
    rank="",
    kinds=(NORM, LINEAR, CONV1D, EMBEDDING, CONVOLUTION, HOLDER, CONTAINER),
    skips=True,
    mapping="ln_tuning",
    forward=forward,
    simulated=True,
)
