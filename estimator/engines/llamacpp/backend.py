"""The machines of a run: what a GPU or the host reads, multiplies and launches, with the back end's rates."""

from __future__ import annotations

import re

from estimator.engines.llamacpp.rates import CPU, DP4A, FITTED, OLD, BackendRates, multiprocessor_clocks, rates_of
from estimator.errors import InputError
from estimator.records import dataclass
from estimator.schemas import GpuSpec
from estimator.units import KILO, parse_size

FLOPS_A_BYTE = 34  # 27.2 TFLOP/s of fp32 at 800 GB/s: presets/gpus/m2-ultra.toml
# of PCIe's peak, where pages of a mapped file are copied: LLaMA 7B q4_0 with 0 to 7 layers on a 3090 Ti, prompts of
# 1,024 tokens (github.com/ggml-org/llama.cpp/pull/6083, March 2024)
PAGEABLE = 0.42
GIGA, TERA = KILO**3, KILO**4


@dataclass(frozen=True, slots=True)
class Place:
    """A device or the host as llama.cpp runs on it.

    bandwidth   bytes/s; peak, packed_peak: FLOP/s at best with 16-bit and with quantised weights
    vector      FLOP/s of the vector units; clocks: multiprocessors times clock, Hz
    """

    name: str
    bandwidth: float
    peak: float
    packed_peak: float
    vector: float
    clocks: float
    rates: BackendRates
    link: float | None = None
    notes: tuple[str, ...] = ()


def place_of(spec: GpuSpec, build: str = OLD, at: dict[str, float] = FITTED) -> Place:
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
    packed = max(plain, spec.peak_flops("int8") or 0.0, 4 * fp32 if spec.compute_capability == DP4A else 0.0)
    rates = rates_of(spec, build, at)
    if spec.vendor not in ("Apple", "NVIDIA"):
        notes.append(f"{spec.id}: {rates.name} was measured with q4_0 of a 7B model and builds of 2025 only")
    link = spec.pcie.gb_s_one_way * GIGA if spec.pcie else None
    if link and build == OLD:
        link *= PAGEABLE
    if apple:
        link = spec.bandwidth_bytes_s
    clocks = multiprocessor_clocks(spec)
    return Place(spec.id, spec.bandwidth_bytes_s, plain, packed, fp32 or plain, clocks, rates, link, tuple(notes))


# channels x 8 bytes x transfers a second of the JEDEC speed that machines of the kind are sold with (JESD79-4, -5)
HOSTS = {
    "dual-channel-ddr4": 2 * 8 * 3.2, "dual-channel-ddr5": 2 * 8 * 5.6, "quad-channel-ddr4": 4 * 8 * 3.2,
    "quad-channel-ddr5": 4 * 8 * 5.2, "8-channel-ddr4": 8 * 8 * 3.2, "8-channel-ddr5": 8 * 8 * 4.8,
    "12-channel-ddr5": 12 * 8 * 4.8,
}  # fmt: skip
DEFAULT_HOST = "dual-channel-ddr5"
HOST_FLOPS = 1.0 * TERA  # 16 cores of AVX2, 16 fused multiply-adds a clock; rates.CPU has the share that was measured
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
    guess = "the host: 67% of its bandwidth and 0.73 TFLOP/s, as one public run on a 13900K gives"
    return Place("the host", bandwidth, HOST_FLOPS, HOST_FLOPS, HOST_FLOPS, 0.0, CPU, None, (*said, guess))
