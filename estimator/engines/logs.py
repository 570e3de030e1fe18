"""What the start-up log of vLLM or SGLang says: the model, the options, and the figures that the engine computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from estimator.records import NamedTuple
from estimator.schemas import GIB

NUMBER = r"([0-9][0-9,]*(?:\.[0-9]+)?)"
SIZE = rf"{NUMBER} ?(?:GiB|GB)"  # both print GiB; older versions call it GB


class Log(NamedTuple):
    """A log as it was read.

    engine    "vllm" or "sglang"; model: as the server was given it, or ""
    options   the engine's options by the names of a question; total: bytes of the card where the log says them
    figures   key of ``results`` -> value; places: key -> decimals of its unit as printed
    """

    engine: str
    model: str
    options: dict[str, str]
    total: int | None
    figures: dict[str, float]
    places: dict[str, float]


def _gib(text: str) -> float:
    return float(text.replace(",", "")) * GIB


def _plain(text: str) -> float:
    return float(text.replace(",", ""))


Line = tuple[str, str, Callable[[str], float]]
VLLM: tuple[Line, ...] = (
    ("weights_bytes", rf"[Mm]odel loading took {SIZE}", _gib),
    ("weights_bytes", rf"(?:model )?weights (?:take|memory:) ?{SIZE}", _gib),
    ("activation_bytes", rf"(?:PyTorch activation peak memory takes|torch peak memory increase:) ?{SIZE}", _gib),
    ("other_bytes", rf"(?:non_torch_memory takes|non-torch forward increase memory:) ?{SIZE}", _gib),
    ("graphs_bytes", rf"Graph capturing finished in [^\n]*?took {SIZE}", _gib),
    ("pool_bytes", rf"Available KV cache memory: {SIZE}", _gib),
    ("pool_bytes", rf"reserved for KV Cache is {SIZE}", _gib),
    ("kv_blocks", rf"# (?:GPU|cuda) blocks: {NUMBER}", _plain),
    ("kv_tokens", rf"GPU KV cache size: {NUMBER} tokens", _plain),
    ("max_concurrency", rf"Maximum concurrency for [0-9,]+ tokens per request: {NUMBER}x", _plain),
)  # fmt: skip
SGLANG: tuple[Line, ...] = (
    ("weights_bytes", rf"Load weight end\.[^\n]*?mem usage={SIZE}", _gib),
    ("kv_tokens", rf"KV Cache is allocated\.[^\n]*?#tokens: {NUMBER}", _plain),
    ("kv_tokens", rf"max_total_num_tokens={NUMBER}", _plain),
)
# option of a question -> names in the engines' printed arguments
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "max_model_len": ("max_seq_len", "max_model_len", "context_length", "context_len"),
    "tensor_parallel": ("tensor_parallel_size", "tp_size"),
    "pipeline_parallel": ("pipeline_parallel_size", "pp_size"),
    "gpu_memory_utilization": ("gpu_memory_utilization",),
    "max_num_seqs": ("max_num_seqs",),
    "max_num_batched_tokens": ("max_num_batched_tokens",),
    "mem_fraction_static": ("mem_fraction_static",),
    "chunked_prefill_size": ("chunked_prefill_size",),
    "block_size": ("block_size",),
    "decode_context_parallel": ("decode_context_parallel_size", "dcp_world_size"),
}
# with enable_lora alone, since every argument is printed: option -> its names
ADAPTERS = {"max_loras": ("max_loras", "max_loras_per_batch"), "max_lora_rank": ("max_lora_rank",)}
LORAS = {"vllm": "1", "sglang": "8"}  # vLLM config/lora.py of 0.19.0; SGLang server_args.py of 0.5.9
OWN = {"vllm": ("mem_fraction_static", "chunked_prefill_size"),
       "sglang": ("gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "block_size",
                  "decode_context_parallel")}  # fmt: skip
CACHES = {"fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "bfloat16": "bf16", "float16": "fp16"}
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32"}
RUNTIME = ("fp8",)  # what --quantization names where the checkpoint is plain


def parse(text: str) -> Log | None:
    """The log in ``text``, None where it is no start-up log of vLLM or SGLang."""
    found: Log | None = None
    for engine, lines in (("vllm", VLLM), ("sglang", SGLANG)):
        figures, places = _figures(text, lines)
        if figures:
            found = Log(engine, _model(text), _options(text, engine), _total(text), figures, places)
            break
    return found


def _figures(text: str, lines: Iterable[Line]) -> tuple[dict[str, float], dict[str, float]]:
    figures: dict[str, float] = {}
    places: dict[str, float] = {}
    for key, pattern, unit in lines:
        match = re.search(pattern, text)
        if match and key not in figures:
            figures[key] = unit(match[1])
            digits = len(match[1].partition(".")[2])
            places[key] = unit("1") * 10.0**-digits / 2 if digits or unit is _gib else 0.0
    return figures, places


def _model(text: str) -> str:
    match = re.search(r"\bmodel(?:_path)?['\"]?[=:] ?['\"]([^'\"\s]{1,200})['\"]", text)
    return match[1] if match else ""


def _numbers(text: str, engine: str, arguments: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, spelt in arguments.items():
        for word in spelt:
            match = re.search(rf"\b{word}['\"]?[=:] ?{NUMBER}", text)
            if match and name not in out and name not in OWN[engine]:
                out[name] = match[1].replace(",", "")
    return out


def _options(text: str, engine: str) -> dict[str, str]:
    out: dict[str, Any] = {}
    adapters = re.search(r"\benable_lora['\"]?[=:] ?True", text)
    if adapters:
        out |= _numbers(text, engine, ADAPTERS)
        out.setdefault("max_loras", LORAS[engine])
    out |= _numbers(text, engine, ARGUMENTS)
    version = re.search(r"\bengine \(v?([0-9]+(?:\.[0-9]+){1,3})", text) or re.search(
        r"\b(?:vLLM API server version|sglang(?: version)?[=: ]+v?) ?([0-9]+(?:\.[0-9]+){1,3})", text
    )
    if version:
        out["engine_version"] = version[1]
    used = re.search(r"gpu_memory_utilization \(([0-9.]+)\)", text)
    if used and engine == "vllm":
        out["gpu_memory_utilization"] = used[1]
    cache = re.search(r"\bkv_cache_dtype['\"]?[=:] ?['\"]?([a-z0-9_]+)", text)
    if cache and cache[1] in CACHES:
        out["kv_dtype"] = CACHES[cache[1]]
    dtype = re.search(r"\bdtype['\"]?[=:] ?['\"]?(?:torch\.)?([a-z0-9]+)", text)
    if dtype and dtype[1] in DTYPES:
        out["dtype"] = DTYPES[dtype[1]]
    scheme = re.search(r"\bquantization['\"]?[=:] ?['\"]?([a-z0-9_]+)", text)
    if scheme and scheme[1] in RUNTIME:
        out["quantization"] = scheme[1]
    if re.search(r"\benable_expert_parallel['\"]?[=:] ?True|\bep_size['\"]?[=:] ?(?:[2-9]|[1-9][0-9])", text):
        out["expert_parallel"] = True
    if engine == "vllm" and re.search(r"\benforce_eager['\"]?[=:] ?True", text):
        out["enforce_eager"] = True
    caching = re.search(r"\benable_prefix_caching['\"]?[=:] ?(True|False)", text)
    if caching and engine == "vllm":
        out["prefix_caching"] = "on" if caching[1] == "True" else "off"
    return out


def _total(text: str) -> int | None:
    match = re.search(rf"total_gpu_memory \({SIZE}\)", text)
    return int(_gib(match[1])) if match else None
