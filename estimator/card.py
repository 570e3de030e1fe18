"""From tensors to the card: reserved memory, the CUDA context, and what fits.

The spreads were measured: runs of one H100 80GB (torch 2.11, transformers 5.17), tests/accuracy/test_gpu_memory.py.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from estimator.presets import load_gpu
from estimator.records import NamedTuple
from estimator.same import Same
from estimator.stack.kernels import HOPPER, HOPPER_WORKSPACE, PREFERS_CUDNN, SMALL, GpuKernels, resident_threads
from estimator.units import parse_memory, parse_size

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

MIB = 1024 * 1024

# peak reserved / peak allocated over measured runs: 5th percentile, median, 95th percentile. Training: 121 runs;
# inference: 75 runs of 68 models
SPREAD = {
    "training": (Fraction(1015, 1000), Fraction(1081, 1000), Fraction(118, 100)),
    "inference": (Fraction(1011, 1000), Fraction(1058, 1000), Fraction(1225, 1000)),
}
# of 100 runs that the range was not fitted on, those inside it: 138 further training runs; inference runs of each model
# beside the range of all others
COVERED = {"training": 88, "inference": 89}
# peak reserved / what simulated blocks amount to, over 359 measured training runs of one GPU: the same percentiles
# (tests/accuracy/test_reserved.py)
BLOCKS = (Fraction(953, 1000), Fraction(1), Fraction(1033, 1000))
# what the driver showed beyond the allocator's pools at the end of those runs, less the bare context:
# kernels that were loaded on the way; least, median, most
KERNELS = {
    "training": (138_412_032, 161_480_704, 169_869_312),
    "inference": (79_691_776, 92_274_688, 163_577_856),
}
# bare contexts of GPUs that were not measured: a guess around the one that was (0.60 GiB)
GUESSED_CONTEXT = (300 * MIB, 600 * MIB, 900 * MIB)


class Range(NamedTuple):
    """Low, best and high bytes."""

    low: Any
    best: Any
    high: Any


class Card(NamedTuple):
    """A GPU as a program finds it: bytes, the context's bytes, what was assumed about both, its kernels, its vendor.

    machine: bytes that it and its host have together, where they share one memory; None where it has its own
    """

    name: str
    bytes: int | None
    context: Range
    notes: tuple[str, ...] = ()
    kernels: GpuKernels = HOPPER
    vendor: str = "NVIDIA"
    machine: int | None = None

    def beside(self, ram: Any) -> Card:
        """The card in a machine of ``--ram``, where that is also the GPU's memory."""
        if ram is None or self.machine is None:
            return self
        return self._replace(machine=parse_memory(str(ram), "--ram"))


# vendors of cards that bitsandbytes does not run on; 0.50.2, installation.md: NVIDIA, AMD, Intel, Apple, Gaudi
NO_BITSANDBYTES = ("Google", "AWS")
CUBLAS = ("NVIDIA", "AMD")  # vendors whose products PyTorch runs in cuBLAS or hipBLAS, with a workspace
_SIZE = re.compile(r"^[0-9][0-9._]* ?([KMGT]i?)?B$", re.IGNORECASE)


def find_card(gpu: str | None, memory: Any = None) -> Card:
    """The card of ``--gpu`` (a preset, a TOML file of one, or a size such as ``12GB``), or one of unknown size.

    memory: ``--gpu-memory``, the bytes that a program gets in place of the preset's. InputError for what is neither.
    """
    if gpu is not None and _SIZE.match(gpu.strip()):
        size = parse_size(gpu.strip(), "--gpu", "bytes")
        sold = f" {size:,} bytes (a card that is sold so has nearly as many GiB);" if "i" not in gpu.lower() else ""
        note = f"--gpu {gpu}:{sold} its CUDA context is guessed at 0.29 to 0.88 GiB"
        card = Card(gpu.strip(), size, Range(*GUESSED_CONTEXT), (note,))
    elif gpu is None:
        said = "no --gpu: the CUDA context is guessed at 0.29 to 0.88 GiB"
        card = Card("" if memory is None else "the GPU", None, Range(*GUESSED_CONTEXT), (said,))
    else:
        card = card_of(load_gpu(gpu))
    if memory is None:
        return card
    size = parse_memory(str(memory), "--gpu-memory")
    return card._replace(bytes=size, notes=(*card.notes, f"--gpu-memory {memory}: what a program gets"))


def card_of(spec: GpuSpec) -> Card:
    """The card of a preset: its context as measured, else a guess that says it is one."""
    return _card(Same(spec))


@lru_cache(maxsize=64)
def _card(same: Same[GpuSpec]) -> Card:
    spec = same.it
    kernels = GpuKernels(
        spec.cublas_workspace or (HOPPER_WORKSPACE if spec.vendor in CUBLAS else 0), spec.flash_attention is not False,
        spec.bf16,
        spec.compute_capability in PREFERS_CUDNN, resident_threads(spec.multiprocessors, spec.compute_capability),
        spec.bf16 and spec.memory_bytes <= SMALL,
    )  # fmt: skip
    if spec.measured:
        n = spec.measured.context_bytes
        exact, said = Range(n, n, n), (spec.memory_basis,)
        return Card(spec.id, spec.memory_bytes, exact, said, kernels, spec.vendor, spec.machine_bytes)
    guess = f"{spec.id}: its CUDA context was not measured; guessed at 0.29 to 0.88 GiB"
    notes = (spec.memory_basis, guess)
    return Card(spec.id, spec.memory_bytes, Range(*GUESSED_CONTEXT), notes, kernels, spec.vendor, spec.machine_bytes)


def reserved(allocated: Any, mode: str) -> Range:
    """What the caching allocator holds: the peak and its fragmentation."""
    return Range(*(allocated * r.numerator // r.denominator for r in SPREAD[mode]))


def device(held: Range, card: Card, mode: str) -> Range:
    """What the driver shows: pools, context, loaded kernels."""
    return Range(*(h + c + k for h, c, k in zip(held, card.context, KERNELS[mode], strict=True)))
