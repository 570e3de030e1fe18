"""What an accelerator's preset says: one class a table, with no field beyond these.

A run reads the project's own presets as they stand, which the tests check; pydantic checks a user's file against the
same annotations (:mod:`estimator.checked`), and is imported for that only.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Literal, get_args

from estimator.units import KIBI, KILO


class Limit:
    """``Annotated[float, Limit(gt=0)]``: what pydantic-core's schema of that type takes; nothing to a run."""

    def __init__(self, **limits: Any) -> None:
        self.limits = limits

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), **self.limits}


Positive = Annotated[float, Limit(gt=0, le=1e24, allow_inf_nan=False)]  # a peak in TFLOP/s fits a float in FLOP/s
PositiveInt = Annotated[int, Limit(gt=0)]
Text = Annotated[str, Limit(min_length=1)]
Matmul = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp6", "fp4", "int8"]
MATMUL_DTYPES: tuple[str, ...] = get_args(Matmul)
GB = KILO**3
MIB = KIBI**2
GIB = KIBI**3
TERA = KILO**4


class Part:
    """A table of a preset: its annotations are its fields, what is assigned to them their defaults; frozen.

    Not a dataclass: those generate half a millisecond of code each, at every run that names a GPU.
    """

    def __init__(self, **fields: Any) -> None:
        kinds = type(self).__annotations__
        if unknown := fields.keys() - kinds.keys():
            raise TypeError(f"no such field: {', '.join(sorted(unknown))}")
        if missing := [k for k in kinds if k not in fields and not hasattr(type(self), k)]:
            raise TypeError(f"missing: {', '.join(missing)}")
        self.__dict__.update({k: getattr(type(self), k) for k in kinds if k not in fields}, **fields)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return id(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={self.__dict__[k]!r}' for k in type(self).__annotations__)})"


# what macOS lets a GPU wire of a machine's memory by default (Metal's recommendedMaxWorkingSetSize)
WIRED_LARGE_GB = 36
WIRED_LARGE, WIRED_SMALL = Fraction(3, 4), Fraction(2, 3)


class MemorySpec(Part):
    """``sold_gb``: the label, decimal. ``reported_mib``: what the driver prints. ``verified``: seen in the source.

    read_gib     what a program was told there is in all (cudaMemGetInfo), as ``read_source`` read it
    unified      shared with the host: the label counts GiB; sizes_gb: the sizes it is sold with, the largest here
    wired_source where it was read how much of it macOS gives to the GPU: 3/4 from 36 GB on, 2/3 below
    shown_share  of the label in GiB, what programs are told of its kind (``shown_source``) where nobody read its own
    """

    sold_gb: Positive
    type: Text
    verified: bool
    reported_mib: PositiveInt | None = None
    reported_verified: bool = False
    read_gib: Positive | None = None
    read_source: Text | None = None
    unified: bool = False
    sizes_gb: tuple[PositiveInt, ...] = ()
    wired_source: Text | None = None
    shown_share: Positive | None = None
    shown_source: Text | None = None

    @property
    def wired_bytes(self) -> int | None:
        """What the GPU may wire by default, or None where it has memory of its own."""
        if self.wired_source is None:
            return None
        share = WIRED_LARGE if self.sold_gb >= WIRED_LARGE_GB else WIRED_SMALL
        return int(self.sold_gb * GIB * share)


class BandwidthSpec(Part):
    """Memory bandwidth in 10^9 bytes/s."""

    gb_s: Positive
    verified: bool


class ComputeSpec(Part):
    """Dense matrix peaks in 10^12 operations/s, fp32 accumulation; ``sparsity``: the factor of structured sparsity."""

    fp32: Positive | None = None
    tf32: Positive | None = None
    fp16: Positive | None = None
    bf16: Positive | None = None
    fp8: Positive | None = None
    fp6: Positive | None = None
    fp4: Positive | None = None
    int8: Positive | None = None
    sparsity: PositiveInt = 1
    verified: tuple[Matmul, ...] = ()


class PowerSpec(Part):
    """Thermal design power of the part, in watts."""

    tdp_w: Positive
    verified: bool


class LinkSpec(Part):
    """The link between accelerators, in 10^9 bytes/s: one way is what a collective can use; gpus: how many share it."""

    name: Text
    gb_s_one_way: Positive
    gb_s_both_ways: Positive
    verified: bool
    gpus: Annotated[int, Limit(ge=1, le=10**6)] = 8


class PcieSpec(Part):
    """The host link: PCIe of this generation, 10^9 bytes/s one way."""

    generation: Annotated[int, Limit(ge=1, le=7)]
    lanes: Annotated[int, Limit(ge=1, le=16)] = 16
    gb_s_one_way: Positive
    verified: bool
    source: Text


class MatmulCeiling(Part):
    """The fastest matrix product that someone measured, in 10^12 FLOP/s."""

    dtype: Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8"]
    tflops: Positive
    source: Text


class Kernels(Part):
    """What the kernels of real steps take beside the isolated ceilings, from measured step times on this device.

    What :class:`estimator.roofline.Accelerator` says of each, in microseconds (_us) and 10^9 elements/s: kernels over
    broadcast or permuted bf16 tensors, and LayerNorm's forward kernel. unaligned, unaligned_gradient: the most bytes
    that all sides are multiples of, below 16 -> share of the best product's rate, forward and of gradients.
    batched_fp32: share of the data sheet's fp32 that batches of an attention's products reach.
    """

    source: Text
    fixed_us: Positive
    launch_us: Positive
    launch_layer_us: Positive
    launch_pass_us: Positive
    launch_busy: Positive
    launch_gradient_us: Positive
    strided_g_elements_s: Positive
    layer_norm_g_elements_s: Positive
    gradient: Positive
    adapter: Positive
    unaligned: dict[PositiveInt, Positive]
    unaligned_gradient: dict[PositiveInt, Positive]
    batched_fp32: Positive


class Measured(Part):
    """Ceilings measured by this project's own scripts on one device.

    gemm_tflops: square bf16 products, size -> 10^12 FLOP/s. skinny_gemm_gb_s: m x 8192 by 8192 x 28672 in bf16,
    m -> bytes of the matrix over the time, 10^9 bytes/s. copy_gb_s counts bytes read and written.
    """

    device: Text
    source: Text
    memory_bytes: PositiveInt
    context_bytes: PositiveInt
    cublas_workspace_bytes: PositiveInt
    copy_gb_s: Positive
    read_gb_s: Positive
    gemm_tflops: dict[PositiveInt, Positive]
    skinny_gemm_gb_s: dict[PositiveInt, Positive]
    kernels: Kernels | None = None


class Quote(Part):
    """What one accelerator cost for an hour, at whom and when."""

    provider: Text
    usd_per_hour: Positive
    date: Text
    source: Text
    verified: bool
    note: str = ""


class GpuSpec(Part):
    """One accelerator: ``presets/gpus/<id>.toml``. ``source`` covers every group that names none of its own.

    compute_capability   CUDA's, NVIDIA only; bf16: whether its products take bf16
    flash_attention      whether PyTorch has its fused attention kernel for it (NVIDIA: from 8.0), where known
    cublas_workspace     bytes that PyTorch gives to a thread that multiplies (aten/src/ATen/cuda/CublasHandlePool.cpp:
                         32 MiB for capabilities 9, 10 and 12, 8.125 MiB elsewhere; 32 or 128 MiB on AMD's)
    multiprocessors      streaming multiprocessors, NVIDIA only: the architecture's white paper or the data sheet
    """

    id: Text
    name: Text
    vendor: Text
    architecture: Text
    source: Text
    note: str = ""
    compute_capability: Annotated[str, Limit(pattern=r"^\d{1,2}\.\d$")] | None = None
    bf16: bool = True
    flash_attention: bool | None = None
    cublas_workspace: PositiveInt | None = None
    multiprocessors: PositiveInt | None = None
    memory: MemorySpec
    bandwidth: BandwidthSpec
    compute: ComputeSpec | None = None
    power: PowerSpec | None = None
    link: LinkSpec | None = None
    pcie: PcieSpec | None = None
    matmul_ceilings: tuple[MatmulCeiling, ...] = ()
    measured: Measured | None = None
    prices: tuple[Quote, ...] = ()

    @property
    def sold_bytes(self) -> int:
        """Memory by the label, in bytes (decimal GB)."""
        return round(self.memory.sold_gb * GB)

    @property
    def told(self) -> tuple[int, str]:
        """Bytes that a program can use at most, and where they come from: measured, read, reported, or the label."""
        m = self.memory
        if self.measured:
            return self.measured.memory_bytes, f"memory as {self.measured.source}"
        if m.read_gib:
            return round(m.read_gib * GIB), f"{m.read_gib:g} GiB as programs read it: {m.read_source}"
        if n := m.wired_bytes:
            return n, f"macOS gives the GPU {n / GIB:.4g} of its {m.sold_gb:g} GiB by default ({m.wired_source})"
        if m.shown_share:  # the driver keeps some of what it reports
            n = round(m.sold_gb * GIB * m.shown_share)
            seen = f" (the driver reports {m.reported_mib:,} MiB)" if m.reported_mib else ""
            shown = f"{n / GIB:.4g} of its {m.sold_gb:g} GiB"
            return n, f"what it tells programs was not read{seen}; {shown}: {m.shown_source}"
        if m.reported_mib:
            seen = "" if m.reported_verified else " (unverified)"
            return m.reported_mib * MIB, f"memory as the driver reports it, {m.reported_mib:,} MiB{seen}"
        n = round(m.sold_gb * GIB) if m.unified else self.sold_bytes
        return n, f"what the driver reports is not known; memory by the label, {m.sold_gb:g} GB"

    @property
    def memory_bytes(self) -> int:
        """Bytes a program can use at most."""
        return self.told[0]

    @property
    def memory_basis(self) -> str:
        """Where :attr:`memory_bytes` comes from, as an assumption to print."""
        return f"{self.id}: {self.told[1]}"

    @property
    def machine_bytes(self) -> int | None:
        """Bytes that the host and the GPU have together where they share one memory; None where the GPU has its own.

        The label's, but of NVIDIA's what CUDA calls total, which is all that Linux has.
        """
        m = self.memory
        seen = m.read_gib if m.read_gib and self.vendor == "NVIDIA" else m.sold_gb
        return round(seen * GIB) if m.unified else None

    @property
    def bandwidth_bytes_s(self) -> float:
        """Memory bandwidth in bytes/s."""
        return self.bandwidth.gb_s * GB

    @property
    def link_bytes_s(self) -> float | None:
        """Bytes/s one way to another accelerator: its own link, else PCIe, else None."""
        link = self.link or self.pcie
        return link.gb_s_one_way * GB if link else None

    @property
    def pcie_bytes_s(self) -> float | None:
        """Bytes/s one way to the host, or None."""
        return self.pcie.gb_s_one_way * GB if self.pcie else None

    def peak_flops(self, dtype: str) -> float | None:
        """Dense peak in FLOP/s for a matrix product in ``dtype``, or None where the part has none."""
        value = getattr(self.compute, dtype, None) if self.compute and dtype in MATMUL_DTYPES else None
        return value * TERA if value else None

    def ceiling_flops(self, dtype: str) -> float | None:
        """The fastest measured product in ``dtype``, FLOP/s: this project's own measurement first, else published."""
        if self.measured and dtype in ("bf16", "fp16"):
            return max(self.measured.gemm_tflops.values()) * TERA
        return next((c.tflops * TERA for c in self.matmul_ceilings if c.dtype == dtype), None)


def _made(cls: Any, data: dict[str, Any]) -> Any:
    """A part from its table of the file; KeyError where the file says more than the schema."""
    kinds = {name: cls.__annotations__[name] for name in data}
    return cls(**{name: _READ[kinds[name]](x) if kinds[name] in _READ else x for name, x in data.items()})


# annotation -> how a value of TOML becomes it; what is not here is as TOML has it
_READ: dict[str, Any] = {
    "Positive": float,
    "Positive | None": float,
    "tuple[PositiveInt, ...]": tuple,
    "tuple[Matmul, ...]": tuple,
    "dict[PositiveInt, Positive]": lambda table: {int(size): float(rate) for size, rate in table.items()},
    "MemorySpec": partial(_made, MemorySpec),
    "BandwidthSpec": partial(_made, BandwidthSpec),
    "ComputeSpec | None": partial(_made, ComputeSpec),
    "PowerSpec | None": partial(_made, PowerSpec),
    "LinkSpec | None": partial(_made, LinkSpec),
    "PcieSpec | None": partial(_made, PcieSpec),
    "Kernels | None": partial(_made, Kernels),
    "Measured | None": partial(_made, Measured),
    "tuple[MatmulCeiling, ...]": lambda rows: tuple(_made(MatmulCeiling, row) for row in rows),
    "tuple[Quote, ...]": lambda rows: tuple(_made(Quote, row) for row in rows),
}


def gpu_of(data: dict[str, Any]) -> GpuSpec:
    """An accelerator from the contents of a preset that the tests have checked: nothing is checked here.

    KeyError, TypeError, ValueError or AttributeError for what is no such preset.
    """
    made: GpuSpec = _made(GpuSpec, data)
    return made
