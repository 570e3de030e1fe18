"""MiSS (which replaced Bone): one r x d_out matrix, applied to sums of d_in / r inputs.

Sources: Kang and Yin 2024, arXiv 2409.15371; peft 0.21.2, tuners/miss/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.ops import exact_div
from estimator.peft.base import COMMON, LINEAR, Args, Build, Kept, Method, Module, PeftTensor, Work


def build(b: Build) -> Iterator[PeftTensor]:
    """r x d_out; ``init_weights="bat"``: d_out/r blocks of r x r; ``"mini"``: r x mini_r."""
    a = b.args
    r = b.rank = a.count("r")
    init = a["init_weights"]
    for m in b.match():
        if r > m.d_in:
            raise InputError(f"--rank {int(r)}: MiSS needs a rank of at most d_in={int(m.d_in)} of {m.example!r}")
        shape = (r, m.d_out)
        if init == "bat":
            exact_div(m.d_in, r, f"--method miss: d_in of {m.leaf} over r")
            shape = (exact_div(m.d_out, r, f"--method miss: d_out of {m.leaf} over r"), r, r)  # type: ignore[assignment]
        elif init == "mini":
            mini = a.count("mini_r")
            exact_div(m.d_out, mini, f"--method miss: d_out of {m.leaf} over mini_r")
            shape = (r, mini)
        yield PeftTensor(m.name, "miss_block", shape, m.times)


def work(m: Module, a: Args) -> Work:
    """Sums of d_in inputs into r, then an r x d_out product."""
    return Work(m.d_in + 2 * a["r"] * m.d_out, 0, 1)


def keeps(m: Module, a: Args) -> Kept:
    """The input's shards are summed before the trained product."""
    return Kept(a["r"])


METHOD = Method(
    name="miss",
    title="MiSS",
    cite="Kang and Yin 2024, arXiv 2409.15371; peft 0.21.2, tuners/miss/layer.py",
    build=build,
    args={"r": 64, "mini_r": 1, "init_weights": True, "bias": "none"},
    accepts=f"{COMMON} exclude_modules miss_dropout",
    kinds=(LINEAR,),
    mapping="miss",
    work=work,
    keeps=keeps,
)
