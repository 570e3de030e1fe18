"""FRoD: each kind of module shares one frozen basis; a diagonal and a sparse matrix are trained in it.

Source: peft 0.21.2, tuners/frod/model.py and layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.ops import minimum
from estimator.peft.base import BASE, BUFFER, COMMON, CONV1D, INDEX, LINEAR, Args, Build, Method, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import HALF, I64, Tensor
from estimator.trace import value_of


def category(key: str) -> str:
    """The kind of a module by its last two names, as peft forms it (a number is skipped)."""
    parts = key.split(".")
    if len(parts) == 1 or parts[-2].isdigit():
        return parts[-1]
    name = f"{parts[-2]}_{parts[-1]}"
    return "attention_output" if name == "output_dense" and len(parts) > 2 and parts[-3] == "attention" else name


def build(b: Build) -> Iterator[PeftTensor]:
    """A diagonal (d_in) and the sparse entries a target; U (d_out x d_in) a target and V (d_in x d_in) a kind
    as buffers. InputError where modules of a kind take inputs of two widths, at which the library fails."""
    a = b.args
    rate = a.number("sparse_rate", 0.0, 1.0)
    keep = a.flag("save_projection")
    kinds: dict[str, tuple[Any, Any]] = {}
    for m in b.match():
        d = m.d_in
        entries = int(int(d * d) * rate)  # in floating point, as peft computes it
        entries = int(minimum(entries, d * d - d))
        if rate > 0 and d > 1:
            entries = max(1, entries)
        yield PeftTensor(m.name, "frod_lambda_l", (d,), m.times)
        yield PeftTensor(m.name, "frod_lambda_s_values", (entries,), m.times)
        yield PeftTensor(m.name, "frod_U", (m.d_out, d), m.times, BUFFER, saved=False, format=BASE)
        kind = category(m.example)
        width = kinds.setdefault(kind, (d, entries))[0]
        if value_of(width) != value_of(d):  # torch.cat of their weights, or the solve by their basis, fails
            raise InputError(
                f"--method frod: peft 0.21.2 has one basis for all {kind} of a model, whose inputs are "
                f"{value_of(width):,} and {value_of(d):,} wide in {b.model}: --targets without them"
            )
    for name, (d, entries) in kinds.items():
        yield PeftTensor("", f"frod_V.{name}", (d, d), 1, BUFFER, keep, format=BASE, host=True)
        yield PeftTensor("", f"frod_s_indices.{name}", (2, entries), 1, BUFFER, keep, format=INDEX, host=True)
        yield PeftTensor("", f"frod_s_size.{name}", (2,), 1, BUFFER, keep, format=INDEX)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: U (S + L) V^T takes the weight's place, applied factor by factor in the model's format; the layer
    itself is not run. With dropout it is, and what its weight makes of the dropped input is taken off."""
    t, x, d = s.t, s.x, s.d_in
    drops = s.drops("frod_dropout")
    whole = s.base() if drops else None
    x = s.dropped(x, "frod_dropout")
    w, n = x.w, s.rows * d
    name = next(k for k in s.held if k.startswith("frod_V.") and s.shape(k)[0] == d)
    v = s.brought(name, w)
    index = s.brought(name.replace("frod_V", "frod_s_indices"), I64)
    values, lengths = (ops.to(t, s.p(f"frod_lambda_{k}"), w) for k in ("s_values", "l"))
    places = t.alloc(2 * values.n, I64, "places, in order")
    values = algebra.op(t, "values, in order", values.n, w, (values,), (index,))
    seen = s.linear(x, v, n)
    if seen.w == HALF:
        dense = algebra.op(t, "S written out", d * d, w, (values,), (values, places))
        sparse = s.linear(seen, dense, n)
        del dense
    else:
        held = ((n, w),)
        sparse = algebra.op(t, "S V^T x", n, w, (seen, values), (seen, values, places), held=held, back=((d * d, w),))
    across = ops.mul(t, seen, lengths, "L V^T x")
    if whole is not None:
        out = ops.add(t, whole, s.linear(ops.add(t, sparse, across), s.p("frod_U")), "output with FRoD")
        out = ops.sub(t, out, s.linear(x, s.weight()), "output with FRoD")
    else:
        out = s.in_place(ops.add(t, sparse, across), s.p("frod_U"), s.bias())
    del sparse, across, seen, values, places, index, v
    return ops.to(t, out, s.w)


def away(a: Args) -> bool:
    """``runtime_offload_base_weight``: the targets' own weights lie on the CPU, where nothing is dropped and so nothing
    reads them (Linear.forward, skip_base_layer)."""
    return a.flag("runtime_offload_base_weight") and not a["frod_dropout"]


METHOD = Method(
    name="frod",
    title="FRoD",
    cite="peft 0.21.2, tuners/frod/model.py",
    build=build,
    args={
        "sparse_rate": 0.01, "save_projection": True, "bias": "none", "runtime_offload_base_weight": False,
        "frod_dropout": 0.0,
    },
    accepts=f"{COMMON} projection_prng_key fan_in_fan_out init_weights regularization_alpha progressbar",
    rank="",
    kinds=(LINEAR, CONV1D),
    mapping="frod",
    forward=forward,
    away=away,
)
