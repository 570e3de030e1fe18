"""VB-LoRA: A and B put together from a bank of vectors that the whole model shares.

Sources: Li et al. 2024, arXiv 2405.15179; peft 0.21.2, tuners/vblora/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.ops import exact_div
from estimator.peft.base import COMMON, CONV1D, LINEAR, Args, Build, Method, Module, PeftTensor, Work, low_rank_work
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import I64, Tensor


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


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: A and B are mixed from the bank's vectors, topk of them a piece."""
    t = s.t
    result = s.base()
    bank = s.p("vblora_vector_bank")
    r = s.shape("vblora_logits_A")[0]
    a = _mixed(s, s.p("vblora_logits_A"), bank, r * s.d_in)
    b = ops.copy(t, _mixed(s, s.p("vblora_logits_B"), bank, r * s.d_out), "B, transposed")
    x = ops.to(t, s.x, bank.w)
    low = s.linear(s.dropped(x, "vblora_dropout"), a, s.rows * r)
    made = s.linear(low, b)
    del low
    result = ops.add(t, result, made, "output with adapter")
    del made
    return ops.to(t, result, s.w)


def _mixed(s: AdaptedLayer, logits: Tensor, bank: Tensor, n: Any) -> Tensor:
    """_get_low_rank_matrix: the largest logits' softmax times their vectors, summed."""
    t, top = s.t, s.args["topk"]
    pieces = n // s.args["vector_length"] * top
    index = t.alloc(pieces, I64, "largest logits, their places")
    largest = algebra.op(t, "largest logits", pieces, logits.w, (logits,), (index,))
    shares = ops.softmax(t, largest)
    del largest
    vectors = algebra.looked_up(t, bank, n * top, index)
    return algebra.op(t, "mixed vectors", n, bank.w, (ops.mul(t, shares, vectors),))


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
    forward=forward,
)
