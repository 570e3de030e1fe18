"""FourierFT: ``n_frequency`` trained coefficients of the update's 2-D spectrum.

Sources: Gao et al. 2024, arXiv 2405.03003; peft 0.21.2, tuners/fourierft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.patterns import takes
from estimator.peft.base import COMMON, CONV1D, LINEAR, Build, Method, PeftTensor
from estimator.peft.targets import split_by
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import F32, I64, GradFn, Tape, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """n coefficients a target."""
    n, patterns = b.args.count("n_frequency"), b.args.patterns("n_frequency_pattern")

    def of(key: str) -> Any:
        return next((v for p, v in patterns.items() if takes(rf".*\.{p}$", key, "match")), patterns.get(key, n))

    for m in b.match():
        for part, count in split_by(m, of):
            if count > part.d_in * part.d_out:
                raise InputError(
                    f"--arg n_frequency: {int(count)} is more than the {int(part.d_in * part.d_out)} "
                    f"entries of {part.example!r}"
                )
            yield PeftTensor(part.name, "fourierft_spectrum", (count,), part.times, layers=part.layers)


def forward(s: AdaptedLayer) -> Tensor:
    """FourierFTLinear.forward: the change of the weight is the real part of an inverse transform in fp32."""
    t = s.t
    result = s.base()
    spectrum = s.p("fourierft_spectrum")
    change = _change(s, spectrum)
    x = ops.to(t, s.x, change.w)
    result = ops.add(t, result, s.linear(x, change), "output with adapter")
    return ops.to(t, result, s.w)


def _change(s: AdaptedLayer, spectrum: Tensor) -> Tensor:
    """get_delta_weight."""
    t, n = s.t, s.n_w
    index = t.alloc(2 * spectrum.n, I64, "places, copied to the GPU")
    dense = algebra.placed(t, t.alloc(n, F32, "spectrum"), ops.to(t, spectrum, F32), index)
    whole = t.alloc(2 * n, F32, "spectrum, complex")
    made = t.emit("complex weight", 2 * n, F32, (dense,), _complex_bwd, None, n)
    del whole
    real = Tensor(n, F32, made.st)
    if made.node is not None:
        t.record(real, (made,), _complex_bwd, None, 2 * n)
    change = ops.scale(t, real, "FourierFT weight")
    del real, made, dense
    return ops.to(t, change, spectrum.w)


def _complex_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """Of a transform, and of its real part: a complex gradient."""
    made = t.alloc(2 * g.n if node.extra > g.n else g.n, F32, "complex gradient")
    return (Tensor(node.extra, F32, made.st),)


METHOD = Method(
    name="fourierft",
    title="FourierFT",
    cite="Gao et al. 2024, arXiv 2405.03003; peft 0.21.2, tuners/fourierft/layer.py",
    build=build,
    args={"n_frequency": 1000, "n_frequency_pattern": {}, "bias": "none"},
    accepts=f"{COMMON} exclude_modules scaling random_loc_seed fan_in_fan_out init_weights",
    rank="",
    kinds=(LINEAR, CONV1D),
    mapping="fourierft",
    forward=forward,
)
