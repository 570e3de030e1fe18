"""FourierFT: ``n_frequency`` trained coefficients of the update's 2-D spectrum.

Sources: Gao et al. 2024, arXiv 2405.03003; peft 0.21.2, tuners/fourierft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.patterns import takes
from estimator.peft.base import COMMON, CONV1D, LINEAR, Build, Method, PeftTensor, written_out
from estimator.peft.targets import split_by


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
            yield PeftTensor(part.name, "fourierft_spectrum", (count,), part.times)


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
    keeps=written_out,
)
