"""The kernels between a layer's products, against the operations of transformers' own layers on the meta device.

Counted from transformers 5.23 in bf16 with SDPA, 1 x 1024 tokens: the operations of a layer that are neither views nor
products nor attention, and what those over contiguous tensors read and write (10^6 bytes) and those over broadcast or
permuted ones write (10^6 elements). LayerNorm's own bytes are not among ours, which times it by its elements.
"""

from __future__ import annotations

import pytest

from estimator.models import load_model
from estimator.work.model import operations
from estimator.work.product import Kernel, Moves
from estimator.work.trainable import FULL
from estimator.work.workload import PassSizes

TOKENS = 1024
MILLION = 10**6
# model -> kernels, contiguous megabytes, strided million elements of a layer's forward pass
FORWARD = {
    "gpt2-medium": (14, 172.0, 2.10),
    "qwen2.5-0.5b": (32, 104.9, 8.65),
    "qwen1.5-7b": (32, 364.4, 62.91),
    "granite-3.1-8b": (34, 416.3, 42.47),
    "smollm2-135m": (32, 51.2, 6.29),
    "qwen3-0.6b": (48, 170.4, 26.74),
    "pythia-1.4b": (19, 83.9, 11.01),
    "phi-2": (25, 429.9, 17.30),
    "stablelm-3b-4e1t": (20, 133.7, 13.76),
}
# the same of the backward pass: kernels are not compared, since one operation there may be two kernels
BACKWARD = {"qwen2.5-0.5b": (265.4, 12.32), "llama-3.2-1b": (548.5, 29.62)}


def layer(model: str, mode: str) -> tuple[Moves, Moves]:
    """All kernels of one layer, forward and backward."""
    arch = load_model(model).architecture
    work = PassSizes(mode, 1, TOKENS, last=mode == "forward")
    made = operations(arch, work, FULL) if mode == "training" else operations(arch, work)
    kernels = [q for q in made if isinstance(q, Kernel) and q.layer]
    return sum((q.forward for q in kernels), start=Moves()), sum((q.backward for q in kernels), start=Moves())


@pytest.mark.parametrize(("model", "want"), FORWARD.items())
def test_forward(model: str, want: tuple[int, float, float]) -> None:
    got, _ = layer(model, "forward")
    layer_norm = 2 * 2 * got.welford  # bf16, read and written
    assert got.launches == want[0]
    assert (got.bytes(2) + layer_norm) / MILLION == pytest.approx(want[1], rel=0.03)
    assert got.strided / MILLION == pytest.approx(want[2], rel=0.01)


@pytest.mark.parametrize(("model", "want"), BACKWARD.items())
def test_backward(model: str, want: tuple[float, float]) -> None:
    _, got = layer(model, "training")
    assert got.bytes(2) / MILLION == pytest.approx(want[0], rel=0.03)
    assert got.strided / MILLION == pytest.approx(want[1], rel=0.1)
