"""Record what transformers builds from the configs of family_variants_more.json.gz: tensors, cache and FLOPs.

    python tests/data/make_family_variants_more.py [--add FILE]

needs torch and transformers (recorded with 2.13 and 5.24; CPU only, nothing is downloaded). Models stand on the meta
device. Every case of the file is measured again; ``--add`` appends the configs of a JSON list first. A case:

    config    as in config.json; fields that equal the class's default may be missing, as in files of save_pretrained
    tensors   [name with numbers replaced by {i}, shape, how many] of every unique parameter
    cache     bytes of every tensor that the cache holds after ``seq`` tokens of ``batch`` sequences in bf16, or null
              where the class cannot run on the meta device
    flops     FlopCounterMode of one forward pass of 64 tokens, eager attention, experts as batched products, or null
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

FILE = Path(__file__).with_name("family_variants_more.json.gz")
BATCH, SEQ, FLOPS_SEQ = 2, 1500, 64
DENSE_EXPERTS = ("llama4_text",)  # classes that compute every expert for every token: their FLOPs are not tokens * k
ON_CPU = ("glm5_next_text", "jetmoe")  # classes that ask for values, which meta tensors do not have
CACHES = ("past_key_values", "cache", "cache_params", "state")  # what outputs call it


class Unasked(TorchDispatchMode):
    """Questions about the values of meta tensors are answered with zero and no."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            return 0
        return False if func is torch.ops.aten.equal.default else func(*args, **(kwargs or {}))


def build(config: dict[str, Any], dtype: torch.dtype) -> Any:
    """The class that ``architectures`` names, on the meta device."""
    fields = {k: v for k, v in config.items() if k != "model_type"}
    made = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(fields)
    cls = getattr(transformers, config["architectures"][0])
    options = {"attn_implementation": "eager", "dtype": dtype}
    with torch.device(device(config)):
        try:
            return cls._from_config(made, experts_implementation="batched_mm", **options).eval()
        except (TypeError, ValueError):  # a class without experts
            return cls._from_config(made, **options).eval()


def device(config: dict[str, Any]) -> str:
    """Where a config's model stands."""
    return "cpu" if config["model_type"] in ON_CPU else "meta"


def held(cache: Any, seen: set[int]) -> list[torch.Tensor]:
    """Every tensor inside a cache object."""
    if id(cache) in seen:
        return []
    seen.add(id(cache))
    if isinstance(cache, torch.Tensor):
        return [cache] if cache.dim() else []
    if isinstance(cache, dict):
        return [t for v in cache.values() for t in held(v, seen)]
    if isinstance(cache, list | tuple):
        return [t for v in cache for t in held(v, seen)]
    own = type(cache).__module__.startswith("transformers") and not hasattr(cache, "model_type")
    return held(vars(cache), seen) if own and hasattr(cache, "__dict__") else []


def run(config: dict[str, Any], dtype: torch.dtype, batch: int, seq: int, cached: bool) -> tuple[Any, int]:
    """(output, FLOPs) of one forward pass."""
    model = build(config, dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, Unasked():
        out = model(input_ids=torch.zeros(batch, seq, dtype=torch.long, device=device(config)), use_cache=cached)
    return out, counter.get_total_flops()


def tensors(config: dict[str, Any]) -> list[list[Any]]:
    found: dict[tuple[str, tuple[int, ...]], int] = {}
    for name, p in build(config, torch.bfloat16).named_parameters():
        key = re.sub(r"(?<=\.)\d+(?=\.|$)", "{i}", name), tuple(p.shape)
        found[key] = found.get(key, 0) + 1
    return [[name, list(shape), times] for (name, shape), times in found.items()]


def record(config: dict[str, Any]) -> dict[str, Any]:
    """One case, measured."""
    out: dict[str, Any] = {"config": config, "tensors": tensors(config), "cache": None, "flops": None}
    try:
        made, _ = run(config, torch.bfloat16, BATCH, SEQ, True)
        cache = [getattr(made, name, None) for name in CACHES]
        out["cache"] = sum(t.numel() * t.element_size() for t in held(cache, set())) or None
        if config["model_type"] not in DENSE_EXPERTS:
            out["flops"] = run(config, torch.float32, 1, FLOPS_SEQ, False)[1]
    except (RuntimeError, ValueError, NotImplementedError) as error:
        print("  cannot run:", config["model_type"], str(error).splitlines()[0][:90])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", type=Path)
    given = parser.parse_args()
    configs = [c["config"] for c in json.loads(gzip.decompress(FILE.read_bytes()))["cases"]] if FILE.exists() else []
    configs += json.loads(given.add.read_text()) if given.add else []
    meta = {"torch": torch.__version__, "transformers": transformers.__version__, "batch": BATCH, "seq": SEQ}
    data = {"meta": meta | {"flops_seq": FLOPS_SEQ}, "cases": [record(c) for c in configs]}
    FILE.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    main()
