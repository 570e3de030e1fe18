"""C3A: block-circular convolutions; a block of b x b has b trained numbers.

Sources: Chen et al. 2024, arXiv 2407.19342; peft 0.21.2, tuners/c3a/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.ops import exact_div
from estimator.patterns import takes
from estimator.peft.base import COMMON, LINEAR, Build, Method, PeftTensor
from estimator.peft.targets import split_by


def build(b: Build) -> Iterator[PeftTensor]:
    """d_out/b x d_in/b blocks of b numbers."""
    a = b.args
    size, patterns = a.count("block_size"), a.patterns("block_size_pattern")

    def of(key: str) -> Any:
        return next((v for p, v in patterns.items() if takes(rf".*\.{p}$", key, "match")), patterns.get(key, size))

    for m in b.match():
        for part, block in split_by(m, of):
            rows = exact_div(part.d_out, block, f"--method c3a: d_out of {part.leaf} over block_size")
            columns = exact_div(part.d_in, block, f"--method c3a: d_in of {part.leaf} over block_size")
            yield PeftTensor(part.name, "c3a_kernel", (rows, columns, block), part.times)


METHOD = Method(
    name="c3a",
    title="C3A",
    cite="Chen et al. 2024, arXiv 2407.19342; peft 0.21.2, tuners/c3a/layer.py",
    build=build,
    args={"block_size": 256, "block_size_pattern": {}, "bias": "none"},
    accepts=f"{COMMON} init_weights",
    rank="",
    kinds=(LINEAR,),
    mapping="c3a",
)
