"""BOFT: a product of block-diagonal rotations (butterflies), and a trained scale an output.

Sources: Liu et al. 2024, arXiv 2311.06243; peft 0.21.2, tuners/boft/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.ops import exact_div
from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work


def build(b: Build) -> Iterator[PeftTensor]:
    """One butterfly: blocks of s x s numbers, a scale an output; and a d_in x d_in permutation as a buffer."""
    a = b.args
    if a.has("boft_block_num") and a["boft_block_num"] != 0 and not a.has("boft_block_size"):
        a.given["boft_block_size"] = 0
    size, num, butterflies = (
        a.count("boft_block_size", 0),
        a.count("boft_block_num", 0),
        a.count("boft_n_butterfly_factor"),
    )
    if (size == 0) == (num == 0):
        raise InputError("--arg boft_block_size or boft_block_num must be given, and not both: their product is d_in")
    if butterflies != 1:
        b.notes.append(
            f"boft_n_butterfly_factor={int(butterflies)} needs peft's CUDA extension; without it peft uses "
            f"1, counted here"
        )
    for m in b.match():
        given = size or num
        other = exact_div(
            m.d_in, given, f"--method boft: d_in of {m.leaf} over {'boft_block_size' if size else 'boft_block_num'}"
        )
        s, blocks = (given, other) if size else (other, given)
        yield PeftTensor(m.name, "boft_R", (1, blocks, s, s), m.times)
        yield PeftTensor(m.name, "boft_s", (m.d_out, 1), m.times)
        yield PeftTensor(m.name, "boft_P", (1, m.d_in, m.d_in), m.times, BUFFER, saved=False)


def work(m: Module, a: Args) -> Work:
    """The weight is rotated: permuted, multiplied block by block, scaled; then used in one product as before."""
    size = a["boft_block_size"] or m.d_in // a["boft_block_num"]
    return Work(0, 2 * size * m.d_in * m.d_out + m.d_in * m.d_out, 0)


METHOD = Method(
    name="boft",
    title="BOFT",
    cite="Liu et al. 2024, arXiv 2311.06243; peft 0.21.2, tuners/boft/layer.py",
    build=build,
    args={"boft_block_size": 4, "boft_block_num": 0, "boft_n_butterfly_factor": 1, "bias": "none"},
    accepts=f"{COMMON} exclude_modules boft_dropout fan_in_fan_out init_weights",
    rank="",
    kinds=(LINEAR,),
    mapping="boft",
    work=work,
)
