"""The accelerator presets as reports: a list that filters, and one whole with the sources of its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimator import presets
from estimator.commands.models.report import matches, nothing
from estimator.errors import unknown
from estimator.formula import Citation
from estimator.report import Cell, Node, Report, Table
from estimator.units import BYTE_RATE, BYTES, FLOP_RATE, USD, WATTS, Unit, parse_memory

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

SOLD = Unit("bytes", "B", "decimal", counted=True)  # memory by the label: GB of 10^9
MATMULS = ("bf16", "fp16", "fp8", "fp4", "int8", "tf32", "fp32")


def gpus(pattern: str = "", vendor: str | None = None, min_memory: Any = None, dtype: str = "bf16") -> Report:
    """The accelerators whose name matches, of a vendor, with at least so many bytes; peaks are dense, in ``dtype``."""
    least = None if min_memory is None else parse_memory(str(min_memory), "--min-memory")
    if dtype not in MATMULS:
        raise unknown("--dtype", dtype, MATMULS)
    facts: dict[str, Any] = {}
    rows: list[tuple[str | Cell | None, ...]] = []
    vendors = set()
    for name in presets.ids("gpus"):
        if pattern and not matches(pattern, name, "gpus"):
            continue
        spec = presets.load_gpu(name)
        vendors.add(spec.vendor)
        if vendor and spec.vendor.lower() != vendor.strip().lower():
            continue
        if least and max(spec.memory_bytes, spec.sold_bytes) < least:
            continue
        rows.append(_gpu_row(spec, dtype))
        facts |= _gpu_facts(spec)
    if not rows:
        known = {v.lower() for v in vendors}
        if vendor and known and vendor.strip().lower() not in known:
            raise unknown("--vendor", vendor, known)
        raise nothing("GPU", "gpus", pattern, None, set())
    columns = ("GPU", "memory", "bandwidth", f"{dtype}, dense", "power", "USD/h")
    note = "memory: what a program can use, where known; USD/h: lowest to highest price on record"
    inputs = {"name": pattern or None, "vendor": vendor, "min_memory": least, "dtype": dtype}
    return Report("gpus", f"{len(rows)} GPU presets", inputs, (Table("", columns, tuple(rows), note),), facts)


def _gpu_row(spec: GpuSpec, dtype: str) -> tuple[str | Cell | None, ...]:
    peak = spec.peak_flops(dtype)
    prices = sorted(p.usd_per_hour for p in spec.prices)
    span = f"{prices[0]:.2f}-{prices[-1]:.2f}" if len(prices) > 1 else f"{prices[0]:.2f}" if prices else None
    return (
        spec.id,
        Cell(spec.memory_bytes, BYTES),
        Cell(spec.bandwidth_bytes_s, BYTE_RATE),
        Cell(peak, FLOP_RATE) if peak else None,
        Cell(spec.power.tdp_w, WATTS) if spec.power else None,
        span,
    )


def _gpu_facts(spec: GpuSpec) -> dict[str, Any]:
    out: dict[str, Any] = {
        f"{spec.id}.memory_bytes": spec.memory_bytes,
        f"{spec.id}.bandwidth_bytes_s": spec.bandwidth_bytes_s,
    }
    out |= {f"{spec.id}.{d}_flops": spec.peak_flops(d) for d in MATMULS if spec.peak_flops(d)}
    return out | ({f"{spec.id}.tdp_w": spec.power.tdp_w} if spec.power else {})


def gpu(name: str) -> Report:
    """One accelerator whole, with the source of its figures; those seen in the source are marked."""
    spec = presets.load_gpu(name)
    peaks = [
        Node(
            f"peak.{d}_flops",
            d,
            spec.peak_flops(d),
            FLOP_RATE,
            note=_seen(bool(spec.compute and d in spec.compute.verified)),
        )
        for d in MATMULS
        if spec.peak_flops(d)
    ]
    sparse = spec.compute.sparsity if spec.compute else 1
    heading = "Dense peaks" + (f" (structured sparsity: x {sparse})" if sparse > 1 else "")
    body: list[Any] = [Node.group("Memory", _memory(spec))]
    body += [Node.group(heading, peaks)] if peaks else []
    body += [Node.group("PyTorch on it", kernels)] if (kernels := _kernels(spec)) else []
    body += [Node.group("Links and power", links)] if (links := _links(spec)) else []
    body += [Node.group("Measured", measured)] if (measured := _measured(spec)) else []
    if spec.prices:
        rows = tuple((p.provider, Cell(p.usd_per_hour, USD), p.date, p.source) for p in spec.prices)
        body.append(Table("Prices of one GPU for an hour", ("provider", "price", "date", "source"), rows))
    others = [a for a, target in presets.aliases("gpus").items() if target == spec.id]
    facts = {k: v for k, v in (("compute_capability", spec.compute_capability), ("bf16", spec.bf16),
             ("flash_attention", spec.flash_attention)) if v is not None}  # fmt: skip
    facts |= ({"note": spec.note} if spec.note else {}) | ({"also_called": ", ".join(others)} if others else {})
    sources = [spec.source, *(c.source for c in spec.matmul_ceilings)]
    sources += [part.source for part in (spec.measured, spec.pcie) if part]
    vendor = "" if spec.name.startswith(spec.vendor) else f"{spec.vendor} "
    title = f"{spec.id}: {vendor}{spec.name}, {spec.architecture}"
    return Report(
        "gpus", title, {"name": name}, tuple(body), facts, (), tuple(Citation(s) for s in dict.fromkeys(sources))
    )


def _seen(verified: bool) -> str:
    return "" if verified else "(unverified)"


def _memory(spec: GpuSpec) -> list[Node]:
    m = spec.memory
    rows = [Node("memory.sold_bytes", f"as sold, {m.type}", spec.sold_bytes, SOLD, note=_seen(m.verified))]
    if m.reported_mib:
        from estimator.schemas import MIB

        rows.append(
            Node(
                "memory.reported_bytes",
                "as the driver reports",
                m.reported_mib * MIB,
                BYTES,
                note=_seen(m.reported_verified),
            )
        )
    if m.read_gib:
        from estimator.schemas import GIB

        size, source = round(m.read_gib * GIB), m.read_source or ""
        rows.append(Node("memory.read_bytes", "as programs read it", size, BYTES, note=source))
    if m.wired_bytes:
        rows.append(Node("memory.wired_bytes", "that macOS gives the GPU", m.wired_bytes, BYTES))
    rows.append(Node("memory_bytes", "usable", spec.memory_bytes, BYTES))
    return [
        *rows,
        Node("bandwidth_bytes_s", "bandwidth", spec.bandwidth_bytes_s, BYTE_RATE, note=_seen(spec.bandwidth.verified)),
    ]


def _kernels(spec: GpuSpec) -> list[Node]:
    """What PyTorch gives cuBLAS to work in."""
    rows = []
    if spec.cublas_workspace:
        rows.append(Node("cublas_workspace_bytes", "cuBLAS workspace a thread", spec.cublas_workspace, BYTES))
    return rows


def _links(spec: GpuSpec) -> list[Node]:
    rows = []
    if spec.link:
        rows.append(
            Node(
                "link_bytes_s",
                f"{spec.link.name}, one way",
                spec.link_bytes_s,
                BYTE_RATE,
                note=_seen(spec.link.verified),
            )
        )
    if spec.pcie:
        rows.append(
            Node(
                "pcie_bytes_s",
                f"PCIe {spec.pcie.generation} x{spec.pcie.lanes}, one way",
                spec.pcie_bytes_s,
                BYTE_RATE,
                note=_seen(spec.pcie.verified),
            )
        )
    if spec.power:
        rows.append(Node("tdp_w", "thermal design power", spec.power.tdp_w, WATTS, note=_seen(spec.power.verified)))
    return rows


def _measured(spec: GpuSpec) -> list[Node]:
    from estimator.schemas import GB, TERA

    rows = [
        Node(f"mamf.{c.dtype}_flops", f"best matrix product, {c.dtype}", c.tflops * TERA, FLOP_RATE)
        for c in spec.matmul_ceilings
    ]
    m = spec.measured
    if m:
        rows += [
            Node(f"measured.gemm_{n}_flops", f"bf16 product of {n} x {n}", v * TERA, FLOP_RATE)
            for n, v in m.gemm_tflops.items()
        ]
        rows += [
            Node("measured.copy_bytes_s", "copy, read and written", m.copy_gb_s * GB, BYTE_RATE),
            Node("measured.read_bytes_s", "read", m.read_gb_s * GB, BYTE_RATE),
            Node("measured.context_bytes", "CUDA context", m.context_bytes, BYTES),
            Node("measured.cublas_workspace_bytes", "cuBLAS workspace a thread", m.cublas_workspace_bytes, BYTES),
        ]
    return rows
