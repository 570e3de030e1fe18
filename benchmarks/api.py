"""Warm calls of the Python API: medians of many, each of another length, so that nothing is answered from memory.

    python benchmarks/api.py [--runs 50] [--check] [--margin 1.0]

Bars in ms (--check exits with 1 above them, each times --margin): a memory estimate of inference 0.5, of a training
step 0.7, with LoRA and checkpointing 1.0, infer 5, kvcache with a GPU 3, a training step of the largest hybrid 3; 126
layers at most 1.2 times what 2 layers cost; at most 1 MiB more after 2,000 calls than after 1,000.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from estimator import api
from estimator.models import load_model

BARS_MS = {
    "memory, inference": 0.5, "memory, training": 0.7, "memory, training, LoRA, checkpointing": 1.0, "infer": 5.0,
    "kvcache --gpu": 3.0, "memory, training, Jamba": 3.0, "memory, training, Qwen3-Next": 3.0,
}  # fmt: skip
LAYERS = 1.2
LEAK_MIB = 1.0


def median(call: Callable[[int], Any], runs: int) -> float:
    """Milliseconds of CPU: the median of ``runs`` calls, each with a length of its own, after two to warm up."""
    times = []
    for i in range(runs + 2):
        start = time.process_time()
        call(1500 + 7 * i)
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times[2:])


def grown(call: Callable[[int], Any]) -> float:
    """MiB that the process's most memory grew by over the second thousand of calls."""
    most = []
    for _ in range(2):
        for i in range(1000):
            call(1500 + i % 300)
        gc.collect()
        most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return most[1] - most[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--margin", type=float, default=1.0)
    args = parser.parse_args()
    model = load_model("llama-3-8b")
    deep = load_model("llama-3.1-405b")
    shallow = load_model("llama-3.1-405b", ["num_hidden_layers=2"])
    jamba, qwen = load_model("jamba-v0.1"), load_model("qwen3-next-80b-a3b")
    step = {"mode": "training"}
    lora = {**step, "method": "lora", "checkpointing": "full"}
    calls: dict[str, Callable[[int], Any]] = {
        "memory, inference": lambda s: api.memory(model, seq_len=s),
        "memory, training": lambda s: api.memory(model, seq_len=s, **step),
        "memory, training, LoRA, checkpointing": lambda s: api.memory(model, seq_len=s, **lora),
        "infer": lambda s: api.infer(model, seq_len=s),
        "kvcache --gpu": lambda s: api.kvcache(model, seq_len=s, gpu="h100"),
        "memory, training, Jamba": lambda s: api.memory(jamba, seq_len=s, **step),
        "memory, training, Qwen3-Next": lambda s: api.memory(qwen, seq_len=s, **step),
        "does not fit, advice": lambda s: api.memory(model, seq_len=s, gpu="rtx-4090", **step),
        "peft": lambda s: api.peft(model, "lora", rank=s % 64 + 1),
        "kvcache": lambda s: api.kvcache(model, seq_len=s),
        "flops": lambda s: api.flops(model, seq_len=s),
        "126 layers": lambda s: api.memory(deep, seq_len=s, **step),
        "2 layers": lambda s: api.memory(shallow, seq_len=s, **step),
    }
    found = {name: median(call, args.runs) for name, call in calls.items()}
    good = True
    for name, value in found.items():
        bar = BARS_MS.get(name)
        good &= bar is None or value <= bar * args.margin
        print(f"{name:38s} {value:7.3f} ms" + (f"  (bar {bar:g})" if bar else ""))
    ratio = found["126 layers"] / found["2 layers"]
    more = grown(calls["memory, training"])
    print(f"126 layers / 2 layers = {ratio:.2f} (bar {LAYERS:g})")
    print(f"grown over 1,000 calls: {more:.2f} MiB (bar {LEAK_MIB:g})")
    good &= ratio <= LAYERS * args.margin and more <= LEAK_MIB
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
