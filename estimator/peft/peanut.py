"""PEANuT: a small network that maps the weight to its own update.

Source: peft 0.21.2, tuners/peanut/layer.py (A reads the weight's outputs, so the input size does not count).
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import COMMON, LINEAR, Args, Build, Kept, Method, Module, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_out), B (d_out x r), and ``depth`` encoders and decoders of r x r."""
    r, depth = b.args.count("r"), b.args.count("depth", 0)
    b.rank = r
    for m in b.match():
        yield PeftTensor(m.name, "peanut_A.weight", (r, m.d_out), m.times)
        yield PeftTensor(m.name, "peanut_B.weight", (m.d_out, r), m.times)
        if depth > 0:
            yield PeftTensor(m.name, "peanut_encoders.weight", (depth, r, r), m.times)
            yield PeftTensor(m.name, "peanut_decoders.weight", (depth, r, r), m.times)


def keeps(m: Module, a: Args) -> Kept:
    """The weight goes through the network in the adapter's format, and its change is written out."""
    return Kept(None, 2)


METHOD = Method(
    name="peanut",
    title="PEANuT",
    cite="peft 0.21.2, tuners/peanut/layer.py",
    build=build,
    args={"r": 32, "depth": 0},
    accepts=f"{COMMON} exclude_modules act_fn scaling init_weights",
    kinds=(LINEAR,),
    mapping="peanut",
    keeps=keeps,
)
