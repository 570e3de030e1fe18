"""FRoD: each kind of module shares one frozen basis; a diagonal and a sparse matrix are trained in it.

Source: peft 0.21.2, tuners/frod/model.py and layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import minimum
from estimator.peft.base import BASE, BUFFER, COMMON, CONV1D, INDEX, LINEAR, Build, Method, PeftTensor


def category(key: str) -> str:
    """The kind of a module by its last two names, as peft forms it (a number is skipped)."""
    parts = key.split(".")
    if len(parts) == 1 or parts[-2].isdigit():
        return parts[-1]
    name = f"{parts[-2]}_{parts[-1]}"
    return "attention_output" if name == "output_dense" and len(parts) > 2 and parts[-3] == "attention" else name


def build(b: Build) -> Iterator[PeftTensor]:
    """A diagonal (d_in) and the sparse entries a target; U (d_out x d_in) a target and V (d_in x d_in) a kind
    as buffers."""
    a = b.args
    rate = a.number("sparse_rate", 0.0, 1.0)
    keep = a.flag("save_projection")
    kinds = {}
    for m in b.match():
        d = m.d_in
        entries = int(int(d * d) * rate)  # in floating point, as peft computes it
        entries = int(minimum(entries, d * d - d))
        if rate > 0 and d > 1:
            entries = max(1, entries)
        yield PeftTensor(m.name, "frod_lambda_l", (d,), m.times)
        yield PeftTensor(m.name, "frod_lambda_s_values", (entries,), m.times)
        yield PeftTensor(m.name, "frod_U", (m.d_out, d), m.times, BUFFER, saved=False)
        kinds[category(m.example)] = (d, entries)
    for name, (d, entries) in kinds.items():
        yield PeftTensor("", f"frod_V.{name}", (d, d), 1, BUFFER, keep, format=BASE)
        yield PeftTensor("", f"frod_s_indices.{name}", (2, entries), 1, BUFFER, keep, format=INDEX)
        yield PeftTensor("", f"frod_s_size.{name}", (2,), 1, BUFFER, keep, format=INDEX)


METHOD = Method(
    name="frod",
    title="FRoD",
    cite="peft 0.21.2, tuners/frod/model.py",
    build=build,
    args={"sparse_rate": 0.01, "save_projection": True, "bias": "none"},
    accepts=f"{COMMON} projection_prng_key frod_dropout fan_in_fan_out init_weights regularization_alpha "
    f"progressbar runtime_offload_base_weight",
    rank="",
    kinds=(LINEAR, CONV1D),
    mapping="frod",
)
