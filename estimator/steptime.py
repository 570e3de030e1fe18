"""Seconds of a training step from its products and kernels, with the ceilings of one accelerator.

Three sums: matrix products at the rate of a product of their size, fused attention at its own rate, everything else
by the bytes it moves. The host launches the kernels meanwhile; where it is slower, it decides. Ceilings come from the
GPU's preset. Where a preset has no measurement of its own, the H100's shares are applied to that GPU's data sheet,
and :attr:`Ceilings.basis` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

from estimator.errors import InputError
from estimator.trace import value_of
from estimator.work import product as p
from estimator.work.folds import moved_elements
from estimator.work.product import FP32_BYTES, Kernel, Product

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

REFERENCE = "h100-sxm"  # the accelerator whose steps were measured
ALIGNMENT_BYTES = 16  # tensor cores load rows of 16 bytes (NVIDIA, Matrix Multiplication Background User's Guide)
GIGA, TERA, MICRO = 10**9, 10**12, 1e-6


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What one accelerator reaches, in FLOP/s and bytes/s.

    peak, bandwidth   of the data sheet; peak32 of fp32 products without tensor cores
    curve    (log of the side of a square product, FLOP/s) in order of size
    pointwise, attention   bytes/s of element-wise kernels, FLOP/s of fused attention (causal count)
    unaligned  share of the rate where a side is no multiple of 16 bytes
    launch   seconds of the host a kernel; isolated: FLOP/s of the fastest single product
    basis    where the figures come from, as assumptions to print
    """

    peak: float
    peak32: float
    bandwidth: float
    curve: tuple[tuple[float, float], ...]
    pointwise: float
    copy: float
    attention: float
    unaligned: float
    launch: float
    isolated: float
    basis: tuple[str, ...]

    def rate(self, m: float, k: float, n: float) -> float:
        """FLOP/s of a product [m, k] x [k, n] inside a step: between measured square products of its volume."""
        side = log(m * k * n) / 3
        points = self.curve
        if side <= points[0][0]:
            return points[0][1]
        for (a, low), (b, high) in pairwise(points):
            if side <= b:
                return low + (high - low) * (side - a) / (b - a)
        return points[-1][1]


def dense_peak(spec: GpuSpec, dtype: str) -> float:
    """Dense peak of ``spec`` in FLOP/s; InputError where it cannot multiply in ``dtype``."""
    peak = spec.peak_flops(dtype)
    if peak is None:
        has = [d for d in ("fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8") if spec.peak_flops(d)]
        raise InputError(f"--gpu {spec.id}: no matrix products in {dtype}. It has: {', '.join(has) or 'no figures'}")
    return peak


def ceilings(spec: GpuSpec, dtype: str) -> Ceilings:
    """The ceilings of ``spec`` in ``dtype``."""
    from estimator.presets import load_gpu

    peak = dense_peak(spec, dtype)
    reference = load_gpu(REFERENCE)
    measured = reference.measured
    assert measured is not None
    assert measured.step is not None
    shares, top = measured.step, max(measured.gemm_tflops.values())
    basis = []
    own = spec.measured if dtype in ("bf16", "fp16") else None
    if own is not None and own.step is not None:
        gemm, shares, copy = own.gemm_tflops, own.step, own.copy_gb_s * GIGA
        top, best = max(gemm.values()), max(gemm.values()) * TERA
        basis.append(f"{spec.id}: ceilings and shares {own.source}; {own.step.source}")
    else:
        gemm = measured.gemm_tflops
        best = spec.ceiling_flops(dtype) or peak * top * TERA / dense_peak(reference, "bf16")
        copy = spec.bandwidth_bytes_s * measured.copy_gb_s * GIGA / reference.bandwidth_bytes_s
        seen = "its published matmul ceiling" if spec.ceiling_flops(dtype) else "its data-sheet peak"
        basis.append(
            f"{spec.id}: scaled, not measured: the shares of {reference.id} applied to {seen} and its bandwidth"
        )
    # products too small to fill the time between two launches say nothing about the device
    sizes = sorted(n for n, t in gemm.items() if 2 * n**3 / (t * TERA) > shares.launch_us * MICRO / 2)
    curve = tuple((log(n), best * gemm[n] / top * shares.gemm) for n in sizes)
    return Ceilings(
        peak, spec.peak_flops("fp32") or peak, spec.bandwidth_bytes_s, curve, copy * shares.pointwise, copy,
        peak * shares.attention, shares.unaligned, shares.launch_us * MICRO, best, tuple(basis),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one pass on the device, by what they are spent on, and of the host that launches its kernels."""

    products: float = 0.0
    adapters: float = 0.0
    attention: float = 0.0
    elementwise: float = 0.0
    optimizer: float = 0.0
    host: float = 0.0

    @property
    def device(self) -> float:
        return self.products + self.adapters + self.attention + self.elementwise + self.optimizer

    @property
    def total(self) -> float:
        """The slower of device and host, which run side by side."""
        return max(self.device, self.host)

    @property
    def bound(self) -> str:
        """What decides: kernel launches, memory or compute."""
        if self.host > self.device:
            return "kernel launches"
        return (
            "memory"
            if self.elementwise + self.optimizer + self.adapters > self.products + self.attention
            else "compute"
        )


def product_seconds(q: Product, c: Ceilings, width: int) -> float:
    """Seconds of all passes of one product over all its layers, operands of ``width`` bytes."""
    runs = float(value_of(q.times)) * (1 + q.gradients + int(q.recomputed)) - (
        float(value_of(q.times)) if q.operator == "backward" else 0
    )
    flops, moved = float(value_of(q.flops(causal=q.operator == "sdpa"))), float(value_of(moved_elements(q))) * width
    if q.operator == "sdpa":
        return runs * max(flops / c.attention, moved / c.pointwise)
    if q.operator == "conv":
        return runs * moved / c.pointwise
    m, k, n = (float(value_of(x)) for x in (q.m, q.k, q.n))
    rate = c.rate(m * float(value_of(q.count)), k, n)
    if any(int(value_of(x)) * width % ALIGNMENT_BYTES for x in (q.k, q.n)) and q.n != 1:
        rate = c.unaligned * c.isolated
    return runs * max(flops / rate, moved / c.copy)


def adapter_seconds(q: Product, c: Ceilings) -> float:
    """An adapter's product in fp32, as peft keeps adapters over a narrower base: no tensor cores without TF32."""
    runs = float(value_of(q.times)) * (1 + q.gradients + int(q.recomputed))
    moved = float(value_of(moved_elements(q))) * FP32_BYTES
    return runs * max(float(value_of(q.flops())) / c.peak32, moved / c.copy)


def pass_times(
    operations: Iterable[Product | Kernel],
    c: Ceilings,
    width: int,
    fp32_adapters: bool = False,
    optimizer_bytes: float = 0.0,
    stream: int | None = None,
) -> Times:
    """Seconds of a pass of ``operations`` whose operands take ``width`` bytes.

    fp32_adapters: True where adapters compute in fp32; optimizer_bytes: what the optimizer step reads and writes;
    stream: bytes an element of the residual stream where it is wider (autocast).
    """
    products = adapters = attention = elementwise = 0.0
    launches = 0.0
    for q in operations:
        launches += float(value_of(q.launches))
        if isinstance(q, Kernel):
            elementwise += float(value_of(q.moved(stream if q.stream and stream else width))) / c.pointwise
        elif q.part == p.ADAPTER and fp32_adapters:
            adapters += adapter_seconds(q, c)
        elif q.part == p.ATTENTION:
            attention += product_seconds(q, c, width)
        else:
            products += product_seconds(q, c, width)
    return Times(products, adapters, attention, elementwise, optimizer_bytes / c.copy, launches * c.launch)


def ideal_seconds(
    operations: Iterable[Product | Kernel], c: Ceilings, width: int, optimizer_bytes: float = 0.0
) -> float:
    """The roofline alone: each product at the dense peak or its bytes at the full bandwidth, nothing else at all."""
    seconds = optimizer_bytes / c.bandwidth
    for q in operations:
        if isinstance(q, Product):
            times = float(value_of(q.times))
            passes = times * (int(q.left) + int(q.right) + (q.operator != "backward"))
            moved = float(value_of(moved_elements(q))) * width
            seconds += passes * max(float(value_of(q.flops(causal=True))) / c.peak, moved / c.bandwidth)
    return seconds
