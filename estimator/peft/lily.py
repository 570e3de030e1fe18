"""Lily: LoRA whose B factors all layers share, mixed by a small router in each.

Source: peft 0.21.2, tuners/lily/model.py and layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.ops import ceil_div
from estimator.peft.base import COMMON, LINEAR, Build, Method, Module, PeftTensor
from estimator.peft.targets import all_linear
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor
from estimator.trace import value_of


def build(b: Build) -> Iterator[PeftTensor]:
    """A router (num_B x r) a target; B (num_B*r x d_out) once for each name and shape; A once for ``stride_A``
    layers."""
    a = b.args
    r, n, stride = a.count("r"), a.count("num_B", 2), a.count("stride_A")
    b.rank = r
    targets = b.match()
    names = b.asked()[0] or (b.default()[0] if b.asked() == (None, None, False) else None)
    groups: dict[tuple[str, int, int], list[Module]] = {}
    for m in targets:
        # peft keeps the last of the names (a set) that ends the module's name; all-linear names modules one by one
        suffix = (
            next((s for s in sorted(names, reverse=True) if m.example.endswith(s)), "")
            if names
            else ""
            if b.asked()[1]
            else m.leaf
        )
        groups.setdefault((suffix, value_of(m.d_in), value_of(m.d_out)), []).append(m)
    alone = b.asked()[2] and not b.long_list(all_linear(b.known))
    if alone:
        b.notes.append("all-linear names fewer than 20 modules one by one for Lily: nothing is shared between layers")
    for members in groups.values():
        first, count = members[0], sum(m.times for m in members)
        for m in members:
            yield PeftTensor(m.name, "lily_router.weight", (n, r), m.times)
        yield from _factor(members, "lily_A.weight", (r, first.d_in), count if alone else ceil_div(count, stride))
        yield from _factor(members, "lily_B.weight", (n * r, first.d_out), count if alone else 1)


def _factor(members: list[Module], name: str, shape: tuple[Any, Any], there: Any) -> Iterator[PeftTensor]:
    """One for each layer of the modules, or so many that they share."""
    count = sum(m.times for m in members)
    if there == count:
        yield from (PeftTensor(m.name, name, shape, m.times) for m in members)
    else:  # the state dict holds a shared tensor once for each layer that uses it
        extra = (count - there) * shape[0] * shape[1]
        yield PeftTensor(members[0].name, name, shape, there, saved_extra=extra, common=True)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: one A, and the Bs that all layers share, mixed by what a router says of the batch."""
    t = s.t
    result = s.base()
    a, b, router = s.p("lily_A.weight"), s.p("lily_B.weight"), s.p("lily_router.weight")
    experts, r = s.shape("lily_router.weight")
    x = ops.to(t, s.x, a.w)
    low = s.linear(x, a, s.rows * r)
    logits = s.linear(low, router, s.rows * experts)
    shares = ops.softmax(t, logits)
    means = ops.mean(t, shares, experts)
    mixed = ops.matmul(t, means, b, r * s.d_out, None, "mixed B")
    change = s.linear(low, mixed)
    return ops.add(t, result, ops.to(t, ops.scale(t, change, "Lily output"), result.w), "output with Lily")


METHOD = Method(
    name="lily",
    title="Lily",
    cite="peft 0.21.2, tuners/lily/model.py",
    build=build,
    args={"r": 32, "stride_A": 1, "num_B": 2},
    accepts=f"{COMMON} exclude_modules scaling init_weights",
    kinds=(LINEAR,),
    mapping="lily",
    forward=forward,
)
