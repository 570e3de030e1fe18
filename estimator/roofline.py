"""What an accelerator takes for a piece of work: a matrix product by its shape, attention, bytes that pass, a kernel.

Three layers, each stated in a report: the data sheet's peaks (the *ideal* roofline, which no program beats), the
ceilings that were measured (products by size, skinny products, copies), and what a kernel costs beside its work.
Where an accelerator was not measured, the H100's ratios of ceiling to peak are applied to its peaks, and it says so.

Times are seconds; sizes may be traced numbers, and the seconds then are too. ``Machine.gemm``, ``Machine.skinny``,
``Machine.attention``, ``Machine.stream`` and ``Machine.strided`` are forward and backward alike: give the shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.ops import maximum
from estimator.trace import value_of
from estimator.units import KILO
from estimator.work.product import MULTIPLY_ADD

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec, Measured
    from estimator.work.product import Product

GIGA, TERA = KILO**3, KILO**4
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
LAUNCH_BOUND = 1.5  # a measured product shorter than this many launches measures the launch
COMPUTE_BOUND = 0.5  # a skinny product above this share of the peak no longer measures the memory

Points = tuple[tuple[float, float], ...]


def peak_of(spec: GpuSpec, dtype: str) -> float:
    """Dense FLOP/s of products in ``dtype``: its own peak, or that of the type it falls back to."""
    for name in (dtype, *FALLBACK.get(dtype, ("bf16", "fp16", "fp32"))):
        found = spec.peak_flops(name)
        if found:
            return found
    raise InputError(f"--gpu {spec.id}: presets/gpus/{spec.id}.toml gives no matrix peak for {dtype}")


@dataclass(frozen=True, slots=True)
class Machine:
    """An accelerator as a roofline with measured ceilings.

    peak, bandwidth   of the data sheet: FLOP/s dense, bytes/s
    gemm_points       (geometric mean of m, k and n; FLOP/s) of large products
    skinny_points     (rows; bytes of the matrix a second) of products that wait for their matrix
    copy              bytes read and written a second by kernels over contiguous tensors
    elements          elements a second of kernels over broadcast or permuted tensors
    exp               exponentials a second: what a fused attention kernel takes beside its products
    fixed             seconds a kernel takes beside its work, launched by a CUDA graph or early enough
    launch            seconds the host takes to launch one operation of an eager program
    link              bytes/s one way to another accelerator, or None
    notes             what was assumed
    """

    name: str
    dtype: str
    peak: float
    bandwidth: float
    gemm_points: Points
    skinny_points: Points
    copy: float
    elements: float
    exp: float
    fixed: float
    launch: float
    link: float | None
    notes: tuple[str, ...] = ()

    def gemm_rate(self, m: Any, k: Any, n: Any) -> float:
        """FLOP/s of a product [m, k] x [k, n], by its size."""
        size = (float(value_of(m)) * float(value_of(k)) * float(value_of(n))) ** (1 / 3)
        return interpolate(self.gemm_points, size)

    def skinny_rate(self, m: Any) -> float:
        """Bytes of a matrix a second where ``m`` rows are multiplied with it."""
        return interpolate(self.skinny_points, float(value_of(m)))

    def gemm(self, m: Any, k: Any, n: Any, count: Any = 1, weight_bytes: Any = None) -> Any:
        """Seconds of ``count`` products [m, k] x [k, n]: compute, or the time in which their ``weight_bytes`` arrive.

        weight_bytes  bytes of all right operands; two bytes an element where not given.
        """
        matrix = weight_bytes if weight_bytes is not None else BF16 * count * k * n
        return maximum(MULTIPLY_ADD * count * m * k * n / self.gemm_rate(m, k, n), matrix / self.skinny_rate(m))

    def product(self, q: Product, element: float = 2.0, shards: Any = 1) -> Any:
        """Seconds of one layer's forward pass of a product that is not fused attention.

        element: bytes of a stored weight's element as it is read. shards: accelerators that share the product.
        """
        if q.operator == "experts":  # every expert that is chosen multiplies its own share of the rows
            chosen = q.weight / (q.k * q.n)
            m = q.m / chosen
            return self.gemm(m, q.k, q.n, chosen / shards, q.weight * element / shards)
        if q.weight:
            return self.gemm(q.m, q.k, q.n, q.count / shards, q.weight * element / shards)
        moved = BF16 * q.count * (q.m * q.k + q.k * q.n + q.m * q.n) / shards
        return maximum(
            MULTIPLY_ADD * q.count * q.m * q.k * q.n / shards / self.gemm_rate(q.m, q.k, q.n), moved / self.copy
        )

    def attention(self, pairs: Any, width: Any) -> Any:
        """Seconds of a fused attention kernel over ``pairs`` query-key pairs (all heads), ``width`` = d_qk + d_v.

        Its products at the best measured rate and one exponential a pair, one after the other.
        """
        return pairs * (MULTIPLY_ADD * width / self.best + 1 / self.exp)

    def stream(self, moved: Any) -> Any:
        """Seconds to move ``moved`` bytes (read and written) through a kernel over contiguous tensors."""
        return moved / self.copy

    def strided(self, elements: Any) -> Any:
        """Seconds of a kernel over ``elements`` elements of broadcast or permuted tensors."""
        return elements / self.elements

    @property
    def best(self) -> float:
        """The fastest measured product, FLOP/s."""
        return max(rate for _, rate in self.gemm_points)

    def ideal(self, flops: Any, moved: Any) -> Any:
        """The roofline alone: FLOPs at the dense peak or bytes at the full bandwidth, whichever takes longer."""
        return maximum(flops / self.peak, moved / self.bandwidth)


def interpolate(points: Points, at: float) -> float:
    """The value at ``at``, linear in logarithms between the measured points, constant beyond them."""
    if at <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if at <= x1:
            share = math.log(at / x0) / math.log(x1 / x0)
            return math.exp(math.log(y0) + share * math.log(y1 / y0))
    return points[-1][1]


@lru_cache(maxsize=16)
def machine(gpu: str, dtype: str = "bf16") -> Machine:
    """The accelerator ``gpu`` multiplying in ``dtype``; InputError for an unknown one or one without a matrix peak."""
    from estimator.presets import load_gpu

    spec = load_gpu(gpu)
    peak = peak_of(spec, dtype)
    notes = (
        [] if spec.peak_flops(dtype) else [f"{spec.id} has no {dtype} peak in its preset: multiplied in another type"]
    )
    own = spec.measured is not None and spec.measured.kernels is not None
    reference = spec if own else load_gpu(REFERENCE)
    seen = reference.measured
    assert seen is not None
    assert seen.kernels is not None
    best = max(seen.gemm_tflops.values()) * TERA
    base, ref_bandwidth = peak_of(reference, "bf16"), reference.bandwidth_bytes_s
    ceiling = spec.ceiling_flops(dtype) or peak * best / base
    scale, wide = ceiling / best, spec.bandwidth_bytes_s / ref_bandwidth
    if not own:
        what = (
            "a published matmul ceiling"
            if spec.ceiling_flops(dtype)
            else f"{best / base:.0%} of the peak for large products"
        )
        notes.append(
            f"{spec.id} was not measured: {what}, {seen.copy_gb_s * GIGA / ref_bandwidth:.0%} of the bandwidth, and "
            f"the {REFERENCE}'s efficiency by size and time a kernel are assumed"
        )
    fixed, launch = seen.kernels.fixed_us / 1e6, seen.kernels.launch_us / 1e6
    return Machine(
        spec.id, dtype, peak, spec.bandwidth_bytes_s,
        tuple((x, y * scale) for x, y in _gemm(seen, fixed, launch)),
        tuple((x, y * wide) for x, y in _skinny(seen, base)),
        seen.copy_gb_s * GIGA * wide, seen.kernels.strided_g_elements_s * GIGA * wide,
        H100_EXP * peak_of(spec, "bf16") / base, fixed, launch, spec.link_bytes_s, tuple(notes),
    )  # fmt: skip


def _gemm(seen: Measured, fixed: float, launch: float) -> Iterable[tuple[float, float]]:
    for n, tflops in sorted(seen.gemm_tflops.items()):
        work = MULTIPLY_ADD * n**3
        seconds = work / (tflops * TERA)
        if seconds > LAUNCH_BOUND * launch:
            yield float(n), work / (seconds - fixed)


SKINNY = (8192, 28672)  # the matrix that the skinny products were measured with


def _skinny(seen: Measured, peak: float) -> Iterable[tuple[float, float]]:
    for m, gb_s in sorted(seen.skinny_gemm_gb_s.items()):
        rate = gb_s * GIGA
        if MULTIPLY_ADD * m * rate / 2 < COMPUTE_BOUND * peak:
            yield float(m), rate
