"""What llama.cpp's back ends make of a machine: shares of its bandwidth and its peak, and the time of a launch.

Fitted by benchmarks/fit_llamacpp.py to 183 rows of 16 GPUs (tests/engines/llamacpp_speed.json: the tables of
github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference, builds of December 2023 and May 2024). Median error 6% in
generation, 9% in prompts; with each GPU left out of the fit in turn 9%, nine of ten rows within 36% (the worst are
70B models that swap on an M1 Max). Those builds launched every kernel of a token by itself and ran no fused attention
by default; later ones replay CUDA graphs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from estimator.errors import InputError
from estimator.schemas import GpuSpec
from estimator.units import KILO, parse_size

FLOPS_A_BYTE = 34  # 27.2 TFLOP/s of fp32 at 800 GB/s: presets/gpus/m2-ultra.toml
GIGA, TERA = KILO**3, KILO**4


@dataclass(frozen=True, slots=True)
class BackendRates:
    """How much of a machine a back end gets.

    read      share of the bandwidth at which weights pass
    cached    share of the bandwidth for keys and values; by_query: every query head reads its own copy
    plain, packed   share of the peak in products of many rows, with 16-bit and with quantised weights
    launch    seconds a kernel; quantises: a product with quantised weights launches one more, for its input
    """

    name: str
    read: float
    cached: float
    by_query: bool
    plain: float
    packed: float
    launch: float
    quantises: bool


CUDA = BackendRates("CUDA", 0.93, 0.545, False, 0.545, 0.453, 3.2e-6, True)
CUDA_HBM = BackendRates(
    "CUDA", 0.685, 0.41, False, 0.545, 0.453, 4.7e-6, True
)  # A100, H100: stacked memory reaches less
METAL = BackendRates("Metal", 0.895, 0.433, True, 0.749, 0.612, 8.2e-6, False)
CPU = BackendRates("CPU", 0.75, 0.5, False, 0.5, 0.5, 2e-6, False)  # not measured: a guess that says so


@dataclass(frozen=True, slots=True)
class Place:
    """A device or the host as llama.cpp runs on it: bytes/s, FLOP/s with 16-bit and with quantised weights."""

    name: str
    bandwidth: float
    peak: float
    packed_peak: float
    rates: BackendRates
    link: float | None = None
    notes: tuple[str, ...] = ()


def place_of(spec: GpuSpec) -> Place:
    """A GPU. Products accumulate in fp16: on GeForce cards that is twice the rate of the presets' fp16 peak, and half
    the int8 peak on every NVIDIA card that has one.
    """
    notes: list[str] = []
    apple = spec.vendor == "Apple"
    fp32 = spec.peak_flops("fp32") or 0.0
    plain = max(spec.peak_flops("fp16") or spec.peak_flops("bf16") or 0.0, fp32, (spec.peak_flops("int8") or 0.0) / 2)
    if not plain:
        plain = FLOPS_A_BYTE * spec.bandwidth_bytes_s
        notes.append(f"{spec.id}: no peak in its preset: {FLOPS_A_BYTE} FLOP a byte of its bandwidth, as an M2 Ultra")
    packed = max(plain, spec.peak_flops("int8") or 0.0)
    rates = METAL if apple else CUDA_HBM if "HBM" in spec.memory.type.upper() else CUDA
    if not apple and spec.vendor != "NVIDIA":
        notes.append(f"{spec.id}: {spec.vendor}'s back ends were not measured; CUDA's shares are taken")
    link = spec.pcie.gb_s_one_way * GIGA if spec.pcie else None
    if apple:
        link = spec.bandwidth_bytes_s
    return Place(spec.id, spec.bandwidth_bytes_s, plain, packed, rates, link, tuple(notes))


# channels x 8 bytes x transfers a second of the JEDEC speed that machines of the kind are sold with (JESD79-4, -5)
HOSTS = {
    "dual-channel-ddr4": 2 * 8 * 3.2, "dual-channel-ddr5": 2 * 8 * 5.6, "quad-channel-ddr4": 4 * 8 * 3.2,
    "quad-channel-ddr5": 4 * 8 * 5.2, "8-channel-ddr4": 8 * 8 * 3.2, "8-channel-ddr5": 8 * 8 * 4.8,
    "12-channel-ddr5": 12 * 8 * 4.8,
}  # fmt: skip
DEFAULT_HOST = "dual-channel-ddr5"
HOST_FLOPS = 1.0 * TERA  # a guess: 16 cores of AVX2, 16 fused multiply-adds a clock
_RATE = re.compile(r"^([0-9.]+ ?[KMGT]i?B)/s$", re.IGNORECASE)


def host_of(text: str | None) -> Place:
    """The host of ``--host``: a kind of memory, or a bandwidth such as 90GB/s."""
    name = (text or DEFAULT_HOST).strip().lower().replace("_", "-")
    found = _RATE.match((text or "").strip())
    if found:
        bandwidth = float(parse_size(found[1], "--host", "bytes"))
    elif name in HOSTS:
        bandwidth = HOSTS[name] * GIGA
    else:
        raise InputError(f"--host {text}: {', '.join(HOSTS)}, or a bandwidth such as 90GB/s")
    said = () if text else (f"--host not given: {DEFAULT_HOST}, {HOSTS[DEFAULT_HOST]:.1f} GB/s",)
    guess = "the host was not measured: 75% of its bandwidth, 1 TFLOP/s guessed for its products"
    return Place("the host", bandwidth, HOST_FLOPS, HOST_FLOPS, CPU, None, (*said, guess))
