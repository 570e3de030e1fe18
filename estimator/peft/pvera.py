"""PVeRA: VeRA whose update is sampled: mean and variance double A's rows and the vector beside them.

Source: peft 0.21.2, tuners/pvera/model.py and layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import maximum
from estimator.peft.base import BUFFER, COMMON, CONV1D, LINEAR, Args, Build, Kept, Method, Module, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """lambda_b (d_out) and lambda_d (2r) a target; A (2r x largest d_in) and B (largest d_out x r) once."""
    r = b.rank = b.args.count("r")
    targets = b.match()
    for m in targets:
        yield PeftTensor(m.name, "pvera_lambda_b", (m.d_out,), m.times)
        yield PeftTensor(m.name, "pvera_lambda_d", (2 * r,), m.times)
    keep = b.args.flag("save_projection")
    yield PeftTensor("", "pvera_A", (2 * r, maximum(*(m.d_in for m in targets))), 1, BUFFER, keep)
    yield PeftTensor("", "pvera_B", (maximum(*(m.d_out for m in targets)), r), 1, BUFFER, keep)


def keeps(m: Module, a: Args) -> Kept:
    """As VeRA, with a mean and a variance: both halves of A's product, the deviation and the noise."""
    return Kept(4 * a["r"] + m.d_out)


METHOD = Method(
    name="pvera",
    title="PVeRA",
    cite="peft 0.21.2, tuners/pvera/model.py",
    build=build,
    args={"r": 256, "save_projection": True, "bias": "none"},
    accepts=f"{COMMON} projection_prng_key pvera_dropout d_initial fan_in_fan_out init_weights "
    f"sample_at_inference generator_seed",
    kinds=(LINEAR, CONV1D),
    mapping="pvera",
    keeps=keeps,
)
