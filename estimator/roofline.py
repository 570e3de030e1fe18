"""What an accelerator takes for a kernel: a matrix product by its shape, fused attention, bytes that pass, a launch.

Three layers, each stated in a report: the data sheet's peaks (the *ideal* roofline, which no program beats), the
ceilings that were measured (products by size, skinny products, copies), and what a kernel costs beside its work.
Where an accelerator was not measured, the H100's ratios of ceiling to peak are applied to its peaks, and it says so.

Times are seconds; sizes may be traced numbers, and the seconds then are too.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from estimator.alike import exp, log
from estimator.errors import InputError
from estimator.ops import maximum
from estimator.records import dataclass
from estimator.same import Same
from estimator.units import KILO
from estimator.work.product import MULTIPLY_ADD

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec, Kernels, Measured

GIGA, TERA, MICRO = KILO**3, KILO**4, 1e-6
BF16 = 2  # bytes
REFERENCE = "h100-sxm"  # the accelerator whose measured ratios stand in for others
FALLBACK = {
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "tf32": ("fp32",),
    "fp8": ("bf16", "fp16"),
    "int8": ("bf16", "fp16"),
}
# special functions of an H100 SXM: 16 a clock and SM; Shah et al. 2024, arXiv 2407.08608, section 3.1
H100_EXP = 3.9 * TERA
NO_PEAK = 1e18  # FLOP/s where no matrix peak is published: memory decides, and compute takes no time
LAUNCH_BOUND = 2.5  # a measured product shorter than this many launches measures the launch and what calls it
COMPUTE_BOUND = 0.5  # a skinny product above this share of the peak no longer measures the memory
ALIGNMENT_BYTES = 16  # tensor cores load rows of 16 bytes (NVIDIA, Matrix Multiplication Background User's Guide)

Points = tuple[tuple[float, float], ...]


def peak_of(spec: GpuSpec, dtype: str) -> float:
    """Dense FLOP/s of products in ``dtype``: its own peak, or that of the type it falls back to."""
    for name in (dtype, *FALLBACK.get(dtype, ("bf16", "fp16", "fp32"))):
        found = spec.peak_flops(name)
        if found:
            return found
    return NO_PEAK


def half_of(spec: GpuSpec) -> str:
    """The 16 bits that a card multiplies in: bf16, or fp16 where it has no bf16."""
    return "fp16" if spec.peak_flops("bf16") is None and spec.peak_flops("fp16") else "bf16"


def dense_peak(spec: GpuSpec, dtype: str) -> float:
    """Dense peak of ``spec`` in FLOP/s; InputError where it cannot multiply in ``dtype``."""
    peak = spec.peak_flops(dtype)
    if peak is None:
        has = [d for d in ("fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8") if spec.peak_flops(d)]
        raise InputError(f"--gpu {spec.id}: no matrix products in {dtype}. It has: {', '.join(has) or 'no figures'}")
    return peak


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An accelerator as a roofline with measured ceilings.

    peak, bandwidth   of the data sheet: FLOP/s dense, bytes/s; fp32: FLOP/s without tensor cores
    gemm_points       (geometric mean of m, k and n; FLOP/s) of large products
    skinny_points     (rows; bytes of the matrix a second) of products that wait for their matrix
    gradient          share of those rates that the products of a backward pass reach, whose operands are transposed
    adapter           share of the copy rate that fp32 products with a side of an adapter's rank reach
    unaligned         (bytes, forward, gradients): where a side is no multiple of 16 bytes but all are of so many, the
                      shares of the best rate that forward products and gradients reach; the most bytes first
    batched           share of ``fp32`` that batches of products in fp32 reach, as of an attention
    copy              bytes read and written a second by kernels over contiguous tensors
    elements          elements a second of kernels over broadcast or permuted tensors
    welford           elements a second of LayerNorm's forward kernel
    exp               exponentials a second: what a fused attention kernel takes beside its products
    fixed             seconds a kernel takes beside its work, launched by a CUDA graph or early enough
    launch, launch_gradient   seconds the host takes to launch one operation of an eager program, and of a training step
    launch_layer, launch_pass   seconds that Python takes beside in a layer and in a pass of an eager program
    launch_busy       how many times as long a busy host takes
    link              bytes/s one way to another accelerator, or None
    notes             what was assumed
    """

    name: str
    dtype: str
    peak: float
    fp32: float
    bandwidth: float
    gemm_points: Points
    skinny_points: Points
    gradient: float
    adapter: float
    unaligned: tuple[tuple[int, float, float], ...]
    batched: float
    copy: float
    elements: float
    welford: float
    exp: float
    fixed: float
    launch: float
    launch_gradient: float
    launch_layer: float
    launch_pass: float
    launch_busy: float
    link: float | None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> float:
        """The fastest measured product, FLOP/s."""
        return max(rate for _, rate in self.gemm_points)

    def gemm_rate(self, m: Any, k: Any, n: Any, width: float = BF16) -> float:
        """FLOP/s of a product [m, k] x [k, n] by its size, and by whether rows of k and n elements are aligned."""
        shares = self._unaligned(k, n, width)
        if shares is not None:
            return shares[1] * self.best
        return _rate(self.gemm_points, float(m) * float(k) * float(n))

    def backward(self, k: Any, n: Any, width: float = BF16) -> float:
        """Share of that rate which the gradients of [m, k] x [k, n] reach, whose operands are transposed."""
        shares = self._unaligned(k, n, width)
        return self.gradient if shares is None else shares[2] / shares[1]

    def _unaligned(self, k: Any, n: Any, width: float) -> tuple[int, float, float] | None:
        """The row of ``unaligned`` for rows of k or n elements that start off 16 bytes, or None where none does."""
        off = [x for side in (k, n) if (x := float(side) * width) % ALIGNMENT_BYTES and side != 1]
        if not off:
            return None
        return next((u for u in self.unaligned if not any(x % u[0] for x in off)), self.unaligned[-1])

    def skinny_rate(self, m: Any) -> float:
        """Bytes of a matrix a second where ``m`` rows are multiplied with it."""
        return interpolate(self.skinny_points, float(m))

    def gemm(self, m: Any, k: Any, n: Any, count: Any = 1) -> Any:
        """Seconds of ``count`` products [m, k] x [k, n], if their operands arrive in time."""
        return MULTIPLY_ADD * count * m * k * n / self.gemm_rate(m, k, n)

    def arrive(self, matrix: Any, m: Any, moved: Any = 0) -> Any:
        """Seconds in which the operands of a product of m rows pass: its ``matrix`` (bytes), or all that is moved."""
        return maximum(matrix / self.skinny_rate(m), self.stream(moved))

    def simt(self, flops: Any, moved: Any) -> Any:
        """Seconds of an adapter's product in fp32 without tensor cores."""
        return maximum(flops / self.fp32, self.stream(moved) / self.adapter)

    def batched32(self, flops: Any) -> Any:
        """Seconds of a batch of products in fp32 without tensor cores."""
        return flops / (self.batched * self.fp32)

    def attention(self, pairs: Any, width: Any, exponentials: Any = 1) -> Any:
        """Seconds of a fused attention kernel over ``pairs`` query-key pairs (all heads), ``width`` = d_qk + d_v.

        Its products at the best measured rate and one exponential a pair, one after the other.
        """
        return pairs * (MULTIPLY_ADD * width / self.best + exponentials / self.exp)

    def stream(self, moved: Any) -> Any:
        """Seconds to move ``moved`` bytes (read and written) through a kernel over contiguous tensors."""
        return moved / self.copy

    def kernel(self, moved: Any, strided: Any, welford: Any) -> Any:
        """Seconds of a kernel: bytes of contiguous tensors, elements of broadcast or permuted ones, and elements that
        LayerNorm's forward kernel passes through."""
        return moved / self.copy + strided / self.elements + welford / self.welford

    def ideal(self, flops: Any, moved: Any) -> Any:
        """The roofline alone: FLOPs at the dense peak or bytes at the full bandwidth, whichever takes longer."""
        return maximum(flops / self.peak, moved / self.bandwidth)


@lru_cache(maxsize=256)
def interpolate(points: Points, at: float) -> float:
    """The value at ``at``, linear in logarithms between the measured points, constant beyond them."""
    if at <= points[0][0]:
        return points[0][1]
    for x0, x1, width, low, height in _segments(points):
        if at <= x1:
            return exp(low + log(at / x0) / width * height)
    return points[-1][1]


@lru_cache(maxsize=256)
def _rate(points: Points, size: float) -> float:
    """The rate of products of ``size`` multiply-adds, of which several of a layer are alike."""
    return interpolate(points, exp(log(size) / 3))


@lru_cache(maxsize=64)
def _segments(points: Points) -> list[tuple[float, float, float, float, float]]:
    """(from, to, and the logarithms of its width, its first value and its height) of each piece between two points."""
    return [(x0, x1, log(x1 / x0), log(y0), log(y1 / y0)) for (x0, y0), (x1, y1) in pairwise(points)]


def machine(gpu: str, dtype: str = "bf16") -> Accelerator:
    """The accelerator ``gpu`` multiplying in ``dtype``; InputError for an unknown one or one without a matrix peak."""
    from estimator.presets import load_gpu

    return _machine(Same(load_gpu(gpu)), dtype)


@lru_cache(maxsize=16)
def _machine(same: Same[GpuSpec], dtype: str) -> Accelerator:
    from estimator.presets import load_gpu

    spec = same.it
    own = spec.measured is not None and spec.measured.kernels is not None
    reference = spec if own else load_gpu(REFERENCE)
    seen = reference.measured
    assert seen is not None
    kernels = seen.kernels
    assert kernels is not None
    peak, base = peak_of(spec, dtype), peak_of(reference, "bf16")
    best = max(seen.gemm_tflops.values()) * TERA
    scale = (spec.ceiling_flops(dtype) or peak * best / base) / best
    wide = spec.bandwidth_bytes_s / reference.bandwidth_bytes_s
    fixed, launch = kernels.fixed_us * MICRO, kernels.launch_us * MICRO
    return Accelerator(
        spec.id, dtype, peak, spec.peak_flops("fp32") or peak, spec.bandwidth_bytes_s,
        tuple((x, y * scale) for x, y in _gemm(seen, fixed, launch)),
        tuple((x, y * wide) for x, y in _skinny(seen, base)),
        kernels.gradient, kernels.adapter, _off_16_bytes(kernels), kernels.batched_fp32,
        seen.copy_gb_s * GIGA * wide, kernels.strided_g_elements_s * GIGA * wide,
        kernels.layer_norm_g_elements_s * GIGA * wide,
        H100_EXP * peak_of(spec, "bf16") / base, 
        fixed, launch, kernels.launch_gradient_us * MICRO, kernels.launch_layer_us * MICRO,
        kernels.launch_pass_us * MICRO, kernels.launch_busy, spec.link_bytes_s,
        tuple(_basis(spec, dtype, reference, best / base)),
    )  # fmt: skip


def _basis(spec: GpuSpec, dtype: str, reference: GpuSpec, share: float) -> Iterable[str]:
    """What the ceilings of a machine rest on."""
    seen = reference.measured
    assert seen is not None
    assert seen.kernels is not None
    if peak_of(spec, dtype) == NO_PEAK:
        yield (
            f"{spec.id}: no matrix peak is published, only its bandwidth: products are timed by the bytes they read, "
            "so a prefill or a large batch takes longer than said"
        )
        return
    if not spec.peak_flops(dtype):
        yield f"{spec.id} has no {dtype} peak in its preset: multiplied in another type"
    if spec is reference and dtype in ("bf16", "fp16"):
        yield f"{spec.id}: ceilings {seen.source}; {seen.kernels.source}"
        return
    ceiling = "its published matmul ceiling" if spec.ceiling_flops(dtype) else f"{share:.0%} of its {dtype} peak"
    copied = seen.copy_gb_s * GIGA / reference.bandwidth_bytes_s
    yield (
        f"{spec.id} in {dtype}: scaled, not measured: {ceiling} for large products, {copied:.0%} of its bandwidth, and "
        f"{reference.id}'s efficiency by size and time a kernel"
    )


def _off_16_bytes(kernels: Kernels) -> tuple[tuple[int, float, float], ...]:
    later = kernels.unaligned_gradient
    return tuple(sorted(((a, share, later[a]) for a, share in kernels.unaligned.items()), reverse=True))


def _gemm(seen: Measured, fixed: float, launch: float) -> Iterable[tuple[float, float]]:
    for n, tflops in sorted(seen.gemm_tflops.items()):
        work = MULTIPLY_ADD * n**3
        seconds = work / (tflops * TERA)
        if seconds > LAUNCH_BOUND * launch:
            yield float(n), work / (seconds - fixed)


def _skinny(seen: Measured, peak: float) -> Iterable[tuple[float, float]]:
    for m, gb_s in sorted(seen.skinny_gemm_gb_s.items()):
        rate = gb_s * GIGA
        if MULTIPLY_ADD * m * rate / 2 < COMPUTE_BOUND * peak:
            yield float(m), rate
