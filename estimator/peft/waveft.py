"""WaveFT: ``n_frequency`` trained wavelet coefficients of the update.

Sources: Bilican et al. 2025, arXiv 2505.12532; peft 0.21.2, tuners/waveft/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.peft.base import COMMON, CONV1D, LINEAR, Build, Method, PeftTensor
from estimator.peft.targets import pattern_value, split_by
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import I64, Tensor

LARGEST = 38  # order of a wavelet family


def build(b: Build) -> Iterator[PeftTensor]:
    """n coefficients a target; ``proportional_parameters``: the same total, shared out by size."""
    a = b.args
    n, patterns = a.count("n_frequency"), a.patterns("n_frequency_pattern")
    targets = b.match()
    total = sum(m.times * m.d_in * m.d_out for m in targets)
    layers = sum(m.times for m in targets)
    for m in targets:
        if a.flag("proportional_parameters"):
            share = int(m.d_in * m.d_out) / int(total)  # peft computes the share in floating point
            groups: list[tuple[Any, Any]] = [(m, max(1, round(share * int(n * layers))))]
        else:
            groups = split_by(m, lambda key: pattern_value(patterns, key, n))
        for part, count in groups:
            if count > part.d_in * part.d_out:
                raise InputError(
                    f"--arg n_frequency: {int(count)} is more than the {int(part.d_in * part.d_out)} "
                    f"entries of {part.example!r}"
                )
            yield PeftTensor(part.name, "waveft_spectrum", (count,), part.times, layers=part.layers)


def forward(s: AdaptedLayer) -> Tensor:
    """WaveFTLinear.forward: the change of the weight is written out from a sparse spectrum of wavelets."""
    t = s.t
    result = s.base()
    change = _change(s)
    x = ops.to(t, s.x, change.w)
    result = ops.add(t, result, s.linear(x, change), "output with adapter")
    return ops.to(t, result, s.w)


def _change(s: AdaptedLayer) -> Tensor:
    """get_delta_weight, without cuDNN's workspace; the places come from the CPU."""
    t, spectrum = s.t, s.p("waveft_spectrum")
    index = t.alloc(2 * spectrum.n, I64, "places, copied to the GPU")
    if not s.flag("use_idwt", True):
        dense = algebra.placed(t, t.alloc(s.n_w, spectrum.w, "spectrum"), spectrum, index)
        return ops.scale(t, dense, "WaveFT weight")
    length = _filter(str(s.args["wavelet_family"] or "db1"))
    high, wide = s.d_out + length - 2, s.d_in + length - 2
    high, wide = high + high % 2, wide + wide % 2
    zeros = t.alloc(high * wide, spectrum.w, "spectrum")
    places = t.alloc(2 * spectrum.n, I64, "places, moved"), t.alloc(2 * spectrum.n, I64, "valid places")
    values = algebra.op(t, "valid values", spectrum.n, spectrum.w, (spectrum,), (places[1],))
    dense = algebra.placed(t, zeros, values, places[1])
    bands = ops.cat(t, [ops.by_heads(t, ops.piece(t, dense, high * wide // 4)) for _ in range(4)], "bands")
    bands = t.autocast(bands)
    rows, columns = high - 2 + length, wide - 2 + length
    made = algebra.op(t, "wavelets", rows * columns, bands.w, (bands,), (bands,))
    del bands
    cut = (length - 2, length - 2) if length > 2 else (0, 0)  # the rows, then the columns, half on each side
    for i in range(4 if length > 2 else 0):
        rows, columns = (rows - cut[0], columns) if i < 2 else (rows, columns - cut[1])
        made = ops.piece(t, made, rows * columns)
    return ops.scale(t, ops.piece(t, made, s.n_w) if rows * columns != s.n_w else made, "WaveFT weight")


def _filter(family: str) -> int:
    """Numbers of a wavelet's filter: 2 a moment, of coiflets 6 (constants.py, WAVELET_REDUCTIONS)."""
    order = family.lstrip("abcdefghijklmnopqrstuvwxyz")
    each = {"db": 2, "sym": 2, "coif": 6}.get(family.removesuffix(order))
    if each is None or not order.isdigit() or not 0 < int(order) <= LARGEST:
        known = "db1 to db38, sym2 to sym20 or coif1 to coif17"
        raise InputError(f"--arg wavelet_family must be one of {known}, got {family[:20]!r}")
    return each * int(order)


METHOD = Method(
    name="waveft",
    title="WaveFT",
    cite="Bilican et al. 2025, arXiv 2505.12532; peft 0.21.2, tuners/waveft/model.py",
    build=build,
    args={"n_frequency": 2592, "n_frequency_pattern": {}, "proportional_parameters": False, "bias": "none"},
    accepts=f"{COMMON} exclude_modules scaling wavelet_family use_idwt random_loc_seed fan_in_fan_out init_weights",
    rank="",
    kinds=(LINEAR, CONV1D),
    mapping="waveft",
    forward=forward,
)
