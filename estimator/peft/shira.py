"""SHiRA: r*(d_in + d_out) entries of the weight itself, at frozen places.

Sources: Bhardwaj et al. 2024, arXiv 2406.13175; peft 0.21.2, tuners/shira/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import LINEAR, TARGETS, Args, Build, Kept, Method, Module, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """The values; the checkpoint holds a row and a column number beside each."""
    r = b.rank = b.args.count("r")
    for m in b.match():
        values = r * (m.d_in + m.d_out)
        if values > m.d_in * m.d_out:
            raise InputError(
                f"--rank {int(r)}: SHiRA would train more entries than {m.example!r} has ({int(m.d_in * m.d_out)})"
            )
        beside = ((f"{m.name}.shira_indices", (2, values), "I32"),)
        yield PeftTensor(m.name, "shira_weight", (values,), m.times, saved_extra=m.times * 2 * values, beside=beside)


def keeps(m: Module, a: Args) -> Kept:
    """The changed weight takes the weight's place, in its format."""
    return Kept(None, 1, native=True)


METHOD = Method(
    name="shira",
    title="SHiRA",
    cite="Bhardwaj et al. 2024, arXiv 2406.13175; peft 0.21.2, tuners/shira/layer.py",
    build=build,
    args={"r": 32},
    accepts=f"{TARGETS} mask_type random_seed fan_in_fan_out init_weights",
    kinds=(LINEAR,),
    mapping="shira",
    keeps=keeps,
)
