"""GraLoRA: k x k blocks of the matrix, each with its own LoRA of rank r/k; a plain LoRA of rank hybrid_r beside.

Sources: Jung et al. 2025, arXiv 2505.20355; peft 0.21.2, tuners/gralora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.ops import exact_div
from estimator.peft.base import COMMON, CONV1D, LINEAR, Args, Build, Method, Module, PeftTensor, Work, low_rank_work


def build(b: Build) -> Iterator[PeftTensor]:
    """k factors A (d_in/k x r) and k factors B (r x d_out/k), as many numbers as LoRA of rank r."""
    a = b.args
    r, k, extra = a.count("r"), a.count("gralora_k"), a.count("hybrid_r", 0)
    b.rank = r
    if r % k != 0:
        raise InputError(f"--rank {int(r)}: GraLoRA needs a multiple of gralora_k={int(k)}")
    for m in b.match():
        rows = exact_div(m.d_in, k, f"--method gralora: d_in of {m.leaf} over gralora_k")
        columns = exact_div(m.d_out, k, f"--method gralora: d_out of {m.leaf} over gralora_k")
        yield PeftTensor(m.name, "gralora_A", (k, rows, r), m.times)
        yield PeftTensor(m.name, "gralora_B", (k, r, columns), m.times)
        if extra > 0:
            yield PeftTensor(m.name, "gralora_A_general.weight", (extra, m.d_in), m.times)
            yield PeftTensor(m.name, "gralora_B_general.weight", (m.d_out, extra), m.times)


def work(m: Module, a: Args) -> Work:
    """The products of LoRA of rank r + hybrid_r."""
    return low_rank_work(m, a["r"] + a["hybrid_r"])


METHOD = Method(
    name="gralora",
    title="GraLoRA",
    cite="Jung et al. 2025, arXiv 2505.20355; peft 0.21.2, tuners/gralora/layer.py",
    build=build,
    args={"r": 32, "hybrid_r": 0, "gralora_k": 2, "bias": "none"},
    accepts=f"{COMMON} alpha gralora_dropout fan_in_fan_out init_weights",
    kinds=(LINEAR, CONV1D),
    mapping="gralora",
    work=work,
)
