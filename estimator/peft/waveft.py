"""WaveFT: ``n_frequency`` trained wavelet coefficients of the update.

Sources: Bilican et al. 2025, arXiv 2505.12532; peft 0.21.2, tuners/waveft/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.peft.base import COMMON, CONV1D, LINEAR, Build, Method, PeftTensor, written_out
from estimator.peft.targets import pattern_value, split_by


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
            yield PeftTensor(part.name, "waveft_spectrum", (count,), part.times)


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
    keeps=written_out,
)
