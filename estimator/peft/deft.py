"""DEFT: a trained direction P whose part of the weight is replaced by P R.

Source: peft 0.21.2, tuners/deft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import minimum
from estimator.peft.base import COMMON, CONV1D, LINEAR, Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """P (d_out x r), and R (r x d_in) unless ``para``; r is at most d_out."""
    b.rank = b.args.count("r")
    for m in b.match():
        r = minimum(b.rank, m.d_out)
        yield PeftTensor(m.name, "deft_P", (m.d_out, r), m.times)
        if not b.args.flag("para"):
            yield PeftTensor(m.name, "deft_R", (r, m.d_in), m.times)


METHOD = Method(
    name="deft",
    title="DEFT",
    cite="peft 0.21.2, tuners/deft/layer.py",
    build=build,
    args={"r": 8, "para": False, "bias": "none"},
    accepts=f"{COMMON} exclude_modules decomposition_method init_scale alpha fan_in_fan_out deft_dropout init_weights",
    kinds=(LINEAR, CONV1D),
    mapping="deft",
)
