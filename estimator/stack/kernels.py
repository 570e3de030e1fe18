"""What of a step's memory depends on the GPU: cuBLAS's workspaces, and which attention kernel PyTorch runs.

Sources: aten/src/ATen/cuda/CublasHandlePool.cpp (parseChosenWorkspaceSize: 4,096 x 8 KiB on Hopper and after, else 2 x
4,096 KiB + 8 x 16 KiB); aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (check_sm_version: flash from compute
capability 8.0; memory-efficient from 5.0, in bf16 from 8.0; neither broadcasts key heads below 8.0).
"""

from __future__ import annotations

from dataclasses import dataclass

HOPPER_WORKSPACE = 32 * 1024 * 1024
WORKSPACE = (2 * 4096 + 8 * 16) * 1024  # 8.125 MiB


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
# CUDA compute capability by architecture; Ampere's 8.0 and 8.6 take the same kernels here
CAPABILITY = {"Pascal": 6.0, "Volta": 7.0, "Turing": 7.5, "Ampere": 8.0, "Ada": 8.9, "Hopper": 9.0}


def serving_threads(card: GpuKernels) -> int:
    """Threads that multiply in a process that generates: one; the Hopper one that was measured had trained before."""
    return 2 if card == HOPPER else 1


def kernels(architecture: str) -> GpuKernels:
    """The kernels of an NVIDIA architecture; of any other, Hopper's."""
    capability = CAPABILITY.get(architecture, 9.0)
    return GpuKernels(HOPPER_WORKSPACE if capability >= 9 else WORKSPACE, capability >= 8, capability >= 8)

