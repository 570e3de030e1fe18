"""What of a step's memory depends on the GPU: cuBLAS's workspaces, and which attention kernel PyTorch runs.

Both are data of the GPU's preset. Source: aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (check_sm_version: flash
from compute capability 8.0; memory-efficient from 5.0, in bf16 from 8.0; only flash broadcasts key heads;
check_prefer_cudnn_attention: 9.0 and 10.0, seen on an H100 in its profile).
"""

from __future__ import annotations

from typing import Any

from estimator.records import dataclass
from estimator.stack.sums import HOPPER_THREADS

HOPPER_WORKSPACE = 32 * 1024 * 1024  # bytes; measured on one H100, torch 2.11
PREFERS_CUDNN = ("9.0", "10.0")  # compute capabilities
SMALL = 49 * 1024**3 // 2  # bytes; unsloth_zoo, fused_linear.py: _SMALL_CARD_BYTES


@dataclass(frozen=True, slots=True)
class GpuKernels:
    """workspace: bytes of cuBLAS's workspace a thread that multiplies; flash: SDPA has its flash kernel; bf16: so do
    the tensor cores; cudnn: PyTorch 2.11 prefers cuDNN's attention, which takes a mask too; threads: that run at once;
    small: of 24.5 GiB or less, with the tensor cores' bf16 (Unsloth's loss asks)."""

    workspace: int
    flash: bool = True
    bf16: bool = True
    cudnn: bool = False
    threads: int = HOPPER_THREADS
    small: bool = False


class Watched:
    """A card, and what was asked of it: a run is the same on every card that answers so."""

    def __init__(self, card: GpuKernels) -> None:
        self.card, self.asked = card, dict[str, Any]()

    def __getattr__(self, name: str) -> Any:
        found = self.asked[name] = getattr(self.card, name)
        return found


HOPPER = GpuKernels(HOPPER_WORKSPACE, cudnn=True)
# resident threads of a multiprocessor by compute capability (CUDA programming guide); 2048 elsewhere
A_MULTIPROCESSOR = {"7.5": 1024, "8.6": 1536, "8.7": 1536, "8.9": 1536, "12.0": 1536}
BEFORE_FLASH = (
    "{} has no flash kernel: SDPA runs its memory-efficient one, keys and values written out for every query head, as "
    "where sdpa_kernel asks for it; left alone, PyTorch takes grouped queries to its math kernel (--attention eager)"
)


def resident_threads(multiprocessors: int | None, capability: str | None) -> int:
    """Threads that a GPU runs at once; an H100's where it is not known."""
    if multiprocessors is None:
        return HOPPER_THREADS
    return multiprocessors * A_MULTIPROCESSOR.get(capability or "", 2048)


def serving_threads(card: GpuKernels) -> int:
    """Threads that multiply in a process that generates: one; the Hopper one that was measured had trained before."""
    return 2 if card.workspace == HOPPER_WORKSPACE else 1
