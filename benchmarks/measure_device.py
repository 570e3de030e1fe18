"""Measure how long a GPU is busy in steps of a record, kernel by kernel: tests/accuracy/device_times.json.gz.

    python benchmarks/measure_device.py OUT.json.gz tests/accuracy/device_times.json.gz

Needs torch, transformers, peft and a GPU. A step is forward, backward and fused AdamW in bf16 (``lora``: rank 16 on
all linear layers; ``checkpoint``: every layer), a prefill computes its last logits alone; random weights of the
config's class, SDPA where the class has it, dropout 0. ``device_s`` is the sum of what the profiler gives each kernel
of one step after twelve; ``wall_s`` the median of nine steps between two events, which holds what the device waits for
the host; ``before`` what the whole step was predicted to take before any was measured.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import measure_memory
import measure_times
import torch
import transformers
from blind_models import drawn
from measure_blind import vocabulary
from torch.profiler import ProfilerActivity, profile

NOT_KERNELS = ("Optimizer.",)  # a range around kernels that are counted


def built(config: dict[str, Any], *_: Any) -> Any:
    """A model of the config's own class, without dropout."""
    still = {k: 0.0 if isinstance(v, float) and "drop" in k else v for k, v in config.items()}
    return drawn(still, {"dtype": "bf16"}, False, measure_memory.DEVICE)


def inputs(config: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """Random tokens."""
    ids = torch.randint(0, vocabulary(config), (case["batch"], case["seq"]), device="cuda")
    return {"input_ids": ids, "labels": ids}


def prefill(case: dict[str, Any], config: dict[str, Any]) -> Callable[[], None]:
    """The last logits of a prompt."""
    model = built(config).eval()
    ids = inputs(config, case)["input_ids"]

    @torch.no_grad()
    def run() -> None:
        model(input_ids=ids, use_cache=True, logits_to_keep=1)

    return run


def measured(case: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The case with what its device and its clock took, and its kernels."""
    if case["kind"] == "infer":
        run = prefill(case, config)
    else:
        model = measure_times.trained(case, config, built)
        run = measure_times.step(model, inputs(config, case), False)
    wall = median(measure_times.seconds(run, timed=9))
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        run()
        torch.cuda.synchronize()
    kernels = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA
               and not e.name.startswith(NOT_KERNELS)]  # fmt: skip
    busy = sum(e.time_range.elapsed_us() for e in kernels) / 1e6
    return case | {"device_s": round(busy, 6), "wall_s": round(wall, 6), "kernels": len(kernels)}


def main() -> None:
    target, source = sys.argv[1:]
    data = json.loads(gzip.decompress(Path(source).read_bytes()))
    for i, case in enumerate(data["cases"]):
        try:
            data["cases"][i] = measured(case, data["configs"][case["model"]])
        except (ValueError, TypeError, AttributeError) as refused:  # left as it was
            print(case["model"], refused)
        print(data["cases"][i], flush=True)
        measure_memory.clear()
    data["meta"] |= {"torch": torch.__version__, "transformers": transformers.__version__,
                     "device": torch.cuda.get_device_name()}  # fmt: skip
    Path(target).write_bytes(gzip.compress(json.dumps(data).encode(), mtime=0))


if __name__ == "__main__":
    main()
