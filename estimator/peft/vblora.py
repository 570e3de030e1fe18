"""VB-LoRA: A and B put together from a bank of vectors that the whole model shares.

Sources: Li et al. 2024, arXiv 2405.15179; peft 0.21.2, tuners/vblora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import exact_div
from estimator.peft.base import COMMON, CONV1D, LINEAR, Args, Build, Method, Module, PeftTensor, Work, low_rank_work


def build(b: Build) -> Iterator[PeftTensor]:
    """Logits over the bank for every piece of A and B, and the bank once."""
    a = b.args
    r = b.rank = a.count("r")
    n, length, top = a.count("num_vectors"), a.count("vector_length"), a.count("topk")
    for m in b.match():
        rows = exact_div(m.d_in, length, f"--method vblora: d_in of {m.leaf} over vector_length")
        columns = exact_div(m.d_out, length, f"--method vblora: d_out of {m.leaf} over vector_length")
        # save_only_topk_weights keeps, of each row of logits, topk indices and topk - 1 weights
        kept = top + top - 1 - n if a.flag("save_only_topk_weights") else 0
        yield PeftTensor(m.name, "vblora_logits_A", (r, rows, n), m.times, saved_extra=m.times * r * rows * kept)
        yield PeftTensor(m.name, "vblora_logits_B", (columns, r, n), m.times, saved_extra=m.times * r * columns * kept)
    yield PeftTensor("", "vblora_vector_bank", (n, length))


def work(m: Module, a: Args) -> Work:
    """LoRA's two products; A and B are gathered from the bank (topk vectors each piece) once a forward pass."""
    return Work(low_rank_work(m, a["r"]).flops, 2 * a["topk"] * a["r"] * (m.d_in + m.d_out), 2)


METHOD = Method(
    name="vblora",
    title="VB-LoRA",
    cite="Li et al. 2024, arXiv 2405.15179; peft 0.21.2, tuners/vblora/layer.py",
    build=build,
    args={"r": 4, "num_vectors": 256, "vector_length": 256, "topk": 2, "save_only_topk_weights": False, "bias": "none"},
    accepts=f"{COMMON} exclude_modules vblora_dropout fan_in_fan_out init_vector_bank_bound init_logits_std",
    kinds=(LINEAR, CONV1D),
    mapping="vblora",
    work=work,
)
