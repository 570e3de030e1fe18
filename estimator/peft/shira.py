"""SHiRA: r*(d_in + d_out) entries of the weight itself, at frozen places.

Sources: Bhardwaj et al. 2024, arXiv 2406.13175; peft 0.21.2, tuners/shira/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import LINEAR, TARGETS, Build, Method, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import I64, Tensor

INDEX_BYTES = 4  # shira_indices, a plain attribute, in 32 bits


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
        yield PeftTensor(m.name, "shira_weight", (values,), m.times, saved_extra=m.times * 2 * values, beside=beside,
                         around=2 * values * INDEX_BYTES)  # fmt: skip


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: a clone of the weight with the trained values added takes its place."""
    t = s.t
    weight = ops.copy(t, s.weight(), "weight, cloned")
    values = s.p("shira_weight")
    scaled = ops.scale(t, values, "values, scaled")
    index = t.alloc(2 * values.n, I64, "places")
    held = ((s.n_w, values.w), (s.n_w, values.w)) if values.w != weight.w else ()
    return s.in_place(s.x, algebra.sparse_added(t, weight, scaled, index, held), s.bias())


METHOD = Method(
    name="shira",
    title="SHiRA",
    cite="Bhardwaj et al. 2024, arXiv 2406.13175; peft 0.21.2, tuners/shira/layer.py",
    build=build,
    args={"r": 32},
    accepts=f"{TARGETS} mask_type random_seed fan_in_fan_out init_weights",
    kinds=(LINEAR,),
    mapping="shira",
    forward=forward,
)
