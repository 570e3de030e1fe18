"""What of a step's memory depends on the GPU: cuBLAS's workspaces, and which attention kernel PyTorch runs.

Both are data of the GPU's preset. Source: aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (check_sm_version: flash
from compute capability 8.0; memory-efficient from 5.0, in bf16 from 8.0; only flash broadcasts key heads).
"""

from __future__ import annotations

from estimator.records import dataclass

HOPPER_WORKSPACE = 32 * 1024 * 1024  # bytes; measured on one H100, torch 2.11


@dataclass(frozen=True, slots=True)
class GpuKernels:
    """workspace: bytes of cuBLAS's workspace a thread that multiplies; flash: SDPA has its flash kernel; bf16: so do
    the tensor cores."""

    workspace: int
    flash: bool = True
    bf16: bool = True


HOPPER = GpuKernels(HOPPER_WORKSPACE)
BEFORE_FLASH = (
    "{} has no flash kernel: SDPA runs its memory-efficient one, keys and values written out for every query head, as "
    "where sdpa_kernel asks for it; left alone, PyTorch takes grouped queries to its math kernel (--attention eager)"
)
def serving_threads(card: GpuKernels) -> int:
    """Threads that multiply in a process that generates: one; the Hopper one that was measured had trained before."""
    return 2 if card == HOPPER else 1
