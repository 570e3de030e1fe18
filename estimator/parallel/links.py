"""Links: between GPUs of a node, between nodes, to the host, to its disks."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from estimator.errors import InputError
from estimator.parallel.degrees import BETWEEN, INSIDE, NODE
from estimator.records import dataclass
from estimator.units import BITS_PER_BYTE, KILO, parse_number

GIGA = KILO**3
NETWORK_GBPS = 400  # one NDR InfiniBand or 400 GbE port a GPU (NVIDIA DGX H100 user guide: eight ConnectX-7)
NVME_GBPS = 200  # 25 GB/s a node (ZeRO-Infinity, arXiv 2104.07857, section 3: DGX-2's disks)
HOST, DISK = "host", "disk"


@dataclass(frozen=True, slots=True)
class Links:
    """Bytes/s one way a GPU (for the disks, a node); None where unknown. ``said``: what was assumed."""

    rates: dict[str, float | None]
    said: tuple[str, ...] = field(default=())

    def rate(self, link: str, ports: int = 1) -> float | None:
        """Bytes/s a GPU of a collective whose ring leaves a node by so many ports: no more than it has inside."""
        rate, inside = self.rates.get(link), self.rates.get(INSIDE)
        return max(rate, min(rate * ports, inside)) if rate and inside and link == BETWEEN else rate

    def seconds(self, nbytes: Any, link: str, ports: int = 1) -> Any:
        """Time of ``nbytes`` over a link, or None. ports: ``Degrees.ports``."""
        rate = self.rate(link, ports)
        return nbytes / rate if rate else None

    @property
    def known(self) -> bool:
        return bool(self.rates.get(INSIDE))


def gbps(text: str | None, flag: str) -> float | None:
    """10^9 bits/s as bytes/s."""
    if text is None:
        return None
    value = float(parse_number(str(text), flag))
    if not 0 < value < KILO**3:
        raise InputError(f"{flag} must be > 0 and < 1e9 (10^9 bits/s), got {text}")
    return value * GIGA / BITS_PER_BYTE


def node_size(given: int | None, gpu: Any) -> int:
    """GPUs that share the fast link: those given, else the preset's. InputError for fewer than one."""
    if given is None:
        return NODE if gpu is None or gpu.link is None else int(gpu.link.gpus)
    if not 1 <= given <= 10**6:
        raise InputError(f"--gpus-per-node must be >= 1, got {given}")
    return given


def links(
    gpu: Any, link: str | None, network: str | None, pcie: str | None, nvme: str | None, disks: bool = False
) -> Links:
    """The rates given, else the GPU preset's, else assumed ones (only beside a known GPU or link).

    ``disks``: whether anything goes to them, so that their assumed rate is worth saying.
    """
    said = []
    inside = gbps(link, "--link-gbps") or (gpu.link_bytes_s if gpu else None)
    between = gbps(network, "--network-gbps")
    disk = gbps(nvme, "--nvme-gbps")
    if inside and not between:
        between = NETWORK_GBPS * GIGA / BITS_PER_BYTE
        said.append(f"--network-gbps not given: {NETWORK_GBPS} x 10^9 bits/s a GPU between nodes")
    if inside and not disk:
        disk = NVME_GBPS * GIGA / BITS_PER_BYTE
        if disks:
            said.append(
                f"--nvme-gbps not given: {NVME_GBPS} x 10^9 bits/s for the disks of a node "
                "(ZeRO-Infinity, arXiv 2104.07857: a DGX-2's 25 GB/s)"
            )
    host = gbps(pcie, "--pcie-gbps") or (gpu.pcie_bytes_s if gpu else None)
    if gpu and not link and gpu.link is None and inside:
        said.append(f"{gpu.id} has no link of its own: PCIe inside a node")
    return Links({INSIDE: inside, BETWEEN: between, HOST: host, DISK: disk}, tuple(said))
