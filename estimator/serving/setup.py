"""From options to a :class:`Serving` and back to bytes: storage of the weights, bounds of the estimate, memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from estimator.dtypes import find_format
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention
from estimator.kv.layers import cache_bytes, kv_format
from estimator.models import Model
from estimator.names import choice
from estimator.ops import ceil_div
from estimator.presets import load_gpu
from estimator.records import replace
from estimator.roofline import Accelerator, machine
from estimator.same import Same
from estimator.serving.step import ENGINES, UNPACKED, Serving, cache_shards, check_split
from estimator.stack.kernels import HOPPER, GpuKernels, serving_threads
from estimator.storage import Storage, model_storage
from estimator.storage.products import multiplied_in
from estimator.trace import value_of

DTYPES = ("bf16", "fp16", "fp8")
MAX_GPUS = 1024


def setup(
    model: Model,
    gpu: str,
    gpus: int,
    dtype: str,
    kv_dtype: str | None,
    quantization: str | None,
    engine: str,
    graph: bool,
) -> tuple[Serving, list[str]]:
    """How ``model`` is served, and what was assumed. Raises InputError for options that do not exist."""
    arch = model.described
    if model.kind == "symbolic":
        raise InputError(
            "infer measures a model of known sizes: --model symbolic has none. See kvcache and flops for letters"
        )
    if arch.kind == "encoder" or not arch.has_head:
        raise InputError(f"{model.name}: an encoder generates nothing; its pass is in: llmcalc flops")
    fmt = find_format(dtype)
    if fmt.name not in DTYPES:
        raise InputError(
            f"--dtype {dtype}: products run in {', '.join(DTYPES)}; weights stored in fewer bits: --quantization"
        )
    cached = kv_format(kv_dtype or ("fp8" if fmt.name == "fp8" else fmt.name))
    choice(engine, "--engine", ENGINES)
    if not 1 <= gpus <= MAX_GPUS:
        raise InputError(f"--gpus must be between 1 and {MAX_GPUS}, got {gpus}")
    check_split(arch, gpus)
    storage = model_storage(model, quantization, fmt.name)
    device = machine(gpu, rate_format(storage, gpu, fmt.name, engine))
    serve = Serving(
        arch, device, element_bytes(storage), float(fmt.bits_per_weight) / 8, storage.bytes,
        cached.block_bits // cached.block, gpus, engine, graph,
        unpack=storage.scheme in UNPACKED and engine == "transformers",
    )  # fmt: skip
    return serve, [*device.notes, *storage.notes, *_said(serve, kv_dtype, cached.name)]


def rate_format(storage: Storage, gpu: str, dtype: str, engine: str) -> str:
    """The format that most of the stored weights are multiplied in: 16 bits, or as an ideal engine's kernels can."""
    bytes_of: dict[str, int] = {}
    for part in storage.parts:
        if part.layout is not None:
            kind = part.layout.products
            bytes_of[kind] = bytes_of.get(kind, 0) + int(value_of(part.bytes))
    if storage.scheme == "none" or dtype == "fp8":
        return dtype
    if engine == "transformers" or not bytes_of:
        return "bf16"
    spec = load_gpu(gpu)
    found = multiplied_in(max(bytes_of, key=lambda kind: bytes_of[kind]), spec.architecture)
    return found if spec.peak_flops(found) else "bf16"


def _said(serve: Serving, kv_dtype: str | None, cached: str) -> list[str]:
    said = [] if kv_dtype else [f"--kv-dtype not given: {cached}"]
    said.append(
        "kernels of transformers, one by one (--engine fused: a serving engine's)"
        if not serve.fused
        else "a serving engine's kernels: norms, rotary embedding and activations fused; not measured"
    )
    said.append(
        "decode steps replayed from a CUDA graph"
        if serve.graph
        else "no CUDA graph: the host launches every kernel of a decode step"
    )
    grouped = any(isinstance(g.mixer, Attention) and g.mixer.kv_heads != g.mixer.heads for g in serve.arch.layers)
    if grouped and not serve.fused:
        said.append(
            "decode: grouped-query kernels that read the cache once; transformers' masked SDPA copies it for every "
            "query head"
        )
    windows = any(isinstance(g.mixer, Attention) and (g.mixer.window or g.mixer.chunk) for g in serve.arch.layers)
    if windows and not serve.fused:
        said.append(
            "a prompt longer than a window needs a mask: all pairs are computed, at the rate of the unmasked kernel "
            "(not measured)"
        )
    if serve.machine.dtype in ("fp4", "int8"):
        said.append(f"all products at the {serve.machine.dtype} rate: attention and the output layer run in 16 bits")
    if serve.unpack:
        said.append("packed 4-bit weights are unpacked before each product of more than one row (bitsandbytes)")
    if serve.gpus > 1:
        split = cache_shards(serve)
        said.append(
            f"tensor parallelism over {serve.gpus}, the cache split over {int(value_of(split))}; "
            "all-reduces are not overlapped, and a step of one takes as long as a kernel (not measured)"
        )
    return said


def element_bytes(storage: Storage) -> dict[str, float]:
    """Bytes an element of each stored weight."""
    out: dict[str, float] = {}
    for part in storage.parts:
        elements = value_of(part.weight.total)
        if elements:
            out[part.weight.name] = float(value_of(part.bytes)) / elements
    return out


def bounds(serve: Serving) -> tuple[Serving, Serving]:
    """(fastest, slowest): fused kernels; the slowest measured rates, and a busy host that launches every kernel."""
    device = serve.machine
    low = replace(serve, engine="fused", unpack=False, graph=True)
    gemm, skinny = (min(y for _, y in points) for points in (device.gemm_points, device.skinny_points))
    busy = device.launch_busy
    slow: Accelerator = replace(
        device, gemm_points=((1.0, gemm),), skinny_points=((1.0, skinny),), launch=busy * device.launch,
        launch_layer=busy * device.launch_layer, launch_pass=busy * device.launch_pass,
    )  # fmt: skip
    return low, replace(serve, machine=slow, graph=False)


def memory(
    serve: Serving, model: Model, b: Any, s: Any, new: Any, card: GpuKernels = HOPPER
) -> tuple[Any, Any, Any, list[str]]:
    """(weights, cache, workspace) a GPU in bytes, and notes. The workspace: the peak of a simulated run beside both."""
    arch = serve.arch
    encoder = s if arch.kind == "encoder-decoder" else 0
    tokens = new if encoder else s + new
    cache = ceil_div(cache_bytes(arch, b, tokens, encoder, serve.kv_bits), int(value_of(cache_shards(serve))))
    weights = ceil_div(serve.weights_bytes, serve.gpus)
    extra, notes = workspace(model, arch, int(value_of(b)), int(value_of(s)), int(value_of(new)), card)
    return weights, cache, extra, notes


def workspace(
    model: Model, arch: Architecture, b: int, s: int, new: int, card: GpuKernels = HOPPER
) -> tuple[int, list[str]]:
    """Bytes that a pass needs beside weights and cache, as :mod:`estimator.moments` simulates it."""
    found, said = _workspace(Same(arch), b, s, new, card)
    return found, list(said)


@lru_cache(maxsize=64)
def _workspace(same: Same[Architecture], b: int, s: int, new: int, card: GpuKernels) -> tuple[int, tuple[str, ...]]:
    """:func:`workspace`, simulated once for each batch and length that a report looks at again."""
    from estimator.moments import Workload, inference

    try:
        made = inference(same.it, Workload(b, s, new, training=False, card=card, threads=serving_threads(card)))
    except InputError as error:
        return 0, (f"the workspace is not counted: {error}",)
    beside = [
        v
        for (where, what), v in made.worst.buffers().items()
        if where != "KV cache" and (where, what) != ("model", "weights")
    ]
    return sum(int(value_of(v)) for v in beside), ()
