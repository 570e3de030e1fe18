"""What llama.cpp's back ends make of a machine: shares of its bandwidth and peaks, and the time of a launch.

How its kernels run decides the form (ggml/src/ggml-cuda/mmq.cu, mmvq.cu, ggml-metal): a token's products read every
weight once; a prompt's quantised products go through 16-bit copies in memory (cuBLAS, builds of 2024) or multiply int8
blocks in the multiprocessors (MMQ on tensor cores from June 2024), whose speed follows their number and clock and not
the data sheet's int8 peak; Metal unpacks blocks in the vector units, K mixes with more instructions than q4_0 and the
M1's generation with more than later ones; every kernel costs a launch, which CUDA graphs shorten.

:data:`FITTED` is what is left: benchmarks/fit_llamacpp.py fits it to tests/engines/llamacpp_speed.json, public tables
of 59 GPUs, and prints the errors with each GPU left out (docs/accuracy.md).
"""

from __future__ import annotations

from estimator.records import dataclass
from estimator.schemas import GpuSpec

OLD, RECENT = "2024", "2025"  # builds of December 2023 to May 2024; scoreboards of 2025
FITTED = {
    "cuda.read": 0.92, "cuda.read.hbm": 0.68, "cuda.cached": 0.586, "cuda.moved": 0.619, "cuda.copies": 0.566,
    "cuda.plain": 0.55, "cuda.plain.8.6": 0.633, "cuda.plain.8.9": 0.954, "launch.2024.6.1": 8.02e-06,
    "launch.2024.8.0": 4.68e-06, "launch.2024.8.6": 3.69e-06, "launch.2024.8.9": 2.55e-06,
    "launch.2024.9.0": 4.75e-06, "launch.older": 1.7, "launch.2025.6.0": 1.01e-05, "launch.2025.6.1": 8.02e-06,
    "launch.2025.7.0": 1.65e-06, "launch.2025.7.5": 3.8e-06, "launch.2025.8.0": 2.64e-06, "launch.2025.8.6": 2.24e-06,
    "launch.2025.8.7": 1.02e-05, "launch.2025.8.9": 1.5e-06, "launch.2025.9.0": 2.23e-06,
    "launch.2025.12.0": 1.27e-06, "integer.6.0": 146, "integer.6.1": 370, "integer.7.0": 370, "integer.7.5": 391,
    "integer.8.0": 539, "integer.8.6": 710, "integer.8.7": 970, "integer.8.9": 1220, "integer.9.0": 672,
    "integer.12.0": 946, "metal.read": 0.936, "metal.cached": 0.485, "metal.moved": 0.95, "metal.plain": 0.77,
    "metal.blocks": 0.7, "metal.packed": 0.609, "metal.unpack_k": 3.34, "metal.unpack_k.m1": 11.7,
    "metal.launch": 8.23e-06, "hip.read": 0.71, "hip.launch": 1.45e-06, "hip.packed": 0.491,
    "hip.packed.RDNA2": 0.661, "vulkan.read": 0.949, "vulkan.launch": 1.18e-05, "vulkan.packed": 0.0769,
}  # fmt: skip
# a compute capability without rows of its own -> the one whose rates it takes
NEAREST = {"5.2": "6.1", "6.2": "6.1", "7.2": "7.0", "10.0": "12.0", "10.3": "12.0", "12.1": "12.0"}
LANES = {"6.0": 64, "7.0": 64, "7.2": 64, "7.5": 64, "8.0": 64}  # of fp32 in a multiprocessor; 128 elsewhere
AFTER_OLD = ("RDNA3.5", "RDNA4", "Blackwell", "Blackwell Ultra")  # architectures that no build of OLD times ran on
DP4A = "6.1"  # four int8 products an fp32 lane
NEWEST_KNOWN = "12.0"


@dataclass(frozen=True, slots=True)
class BackendRates:
    """How much of a machine a back end gets.

    read, cached    shares of the bandwidth at which weights, and keys and values, pass; by_query: without fused
                    attention every query head reads its own copy
    moved           share of the bandwidth for activations between kernels
    plain, blocks, packed   shares of the 16-bit peak in products of many rows: 16-bit weights; q4_0 to q8_0; K mixes
    copies          passes of quantised weights as 16 bits through memory before such a product
    integer         int8 operations a clock of a multiprocessor in such a product; None: by ``blocks`` and ``packed``
    unpack_k        operations of the vector units to unpack a weight of a K mix in a token's products
    launch          seconds a kernel; quantises: a product with quantised weights launches one more, for its input
    """

    name: str
    read: float
    cached: float
    moved: float
    plain: float
    blocks: float
    packed: float
    launch: float
    by_query: bool = False
    copies: float = 0.0
    integer: float | None = None
    unpack_k: float = 0.0
    quantises: bool = False


# 13900K, DDR5-6400: 54.7 ms a token and 18.1 ms a token of a prompt with LLaMA 7B q4_0
# (github.com/ggml-org/llama.cpp/issues/34, 12 August 2023): 67% of the bandwidth, 0.73 TFLOP/s;
# of caches, activations and launches nothing was measured: guesses
CPU = BackendRates("CPU", 0.67, 0.5, 0.5, 0.73, 0.73, 0.73, 2e-6)


def rates_of(spec: GpuSpec, build: str, at: dict[str, float] = FITTED) -> BackendRates:
    """The rates of a GPU in builds of OLD or RECENT times."""
    if spec.vendor == "Apple":
        return _metal(spec, at)
    if spec.vendor == "AMD":
        return _other("ROCm", "hip", at.get(f"hip.packed.{spec.architecture}", at["hip.packed"]), at)
    if spec.vendor == "Intel":
        return _other("Vulkan", "vulkan", at["vulkan.packed"], at)
    return _cuda(spec, build, at)


def _cuda(spec: GpuSpec, build: str, at: dict[str, float]) -> BackendRates:
    made = NEAREST.get(spec.compute_capability or NEWEST_KNOWN, spec.compute_capability or NEWEST_KNOWN)
    launch = at.get(f"launch.{build}.{made}") or at["launch.older"] * at.get(
        f"launch.{RECENT}.{made}", at[f"launch.{RECENT}.{NEWEST_KNOWN}"]
    )
    plain = at.get(f"cuda.plain.{made}", at["cuda.plain"])
    copied = build == OLD and made != DP4A  # without tensor cores int8 products were the faster way in 2024 too
    stacked = ".hbm" if "HBM" in spec.memory.type.upper() else ""
    return BackendRates(
        "CUDA", at[f"cuda.read{stacked}"], at["cuda.cached"], at["cuda.moved"], plain, plain, plain, launch,
        copies=at["cuda.copies"] if copied else 0.0,
        integer=None if copied else at.get(f"integer.{made}", at[f"integer.{NEWEST_KNOWN}"]), quantises=True,
    )  # fmt: skip


def _metal(spec: GpuSpec, at: dict[str, float]) -> BackendRates:
    first = spec.architecture.endswith("family 7")
    return BackendRates(
        "Metal", at["metal.read"], at["metal.cached"], at["metal.moved"], at["metal.plain"], at["metal.blocks"],
        at["metal.packed"], at["metal.launch"], by_query=True,
        unpack_k=at["metal.unpack_k.m1" if first else "metal.unpack_k"],
    )  # fmt: skip


def _other(name: str, key: str, share: float, at: dict[str, float]) -> BackendRates:
    """ROCm and Vulkan: few rows, all of q4_0 and of recent builds."""
    return BackendRates(
        name, at[f"{key}.read"], at["cuda.cached"], at["cuda.moved"], share, share, share, at[f"{key}.launch"],
        quantises=True,
    )  # fmt: skip


def multiprocessor_clocks(spec: GpuSpec) -> float:
    """Multiprocessors times clock, in Hz: from the fp32 peak and the lanes of the architecture. 0 where unknown."""
    return (spec.peak_flops("fp32") or 0.0) / (2 * LANES.get(spec.compute_capability or "", 128))
