"""Warm calls of the Python API: the least of many, and the ratio of a deep model to a shallow one.

    python benchmarks/api.py [--runs 50] [--check]

Bars (--check exits with 1 above them): a memory estimate of inference at most 1 ms, of a training step at most 2 ms;
126 layers at most 1.2 times what 2 layers cost.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from estimator.commands.flops.report import flops
from estimator.commands.kvcache.report import kvcache
from estimator.commands.memory.report import memory
from estimator.commands.peft.report import peft
from estimator.models import load_model

LIMITS_MS = {"memory, inference": 1.0, "memory, training": 2.0, "memory, training, LoRA, checkpointing": 2.0}
LAYERS = 1.2


def least(call: Callable[[], Any], runs: int) -> float:
    """The least milliseconds of ``runs`` calls after two to warm up."""
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times[2:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    model = load_model("llama-3-8b")
    deep = load_model("llama-3.1-405b")
    shallow = load_model("llama-3.1-405b", ["num_hidden_layers=2"])
    step = {"mode": "training", "seq_len": 2048}
    lora = {**step, "method": "lora", "checkpointing": "full"}
    calls: dict[str, Callable[[], Any]] = {
        "memory, inference": lambda: memory(model),
        "memory, training": lambda: memory(model, **step),
        "memory, training, LoRA, checkpointing": lambda: memory(model, **lora),
        "peft": lambda: peft(model, "lora", rank=8),
        "kvcache": lambda: kvcache(model, seq_len=8192),
        "flops": lambda: flops(model, seq_len=2048),
        "126 layers": lambda: memory(deep, **step),
        "2 layers": lambda: memory(shallow, **step),
    }
    found = {name: least(call, args.runs) for name, call in calls.items()}
    for name, value in found.items():
        bar = f"  (bar {LIMITS_MS[name]:g})" if name in LIMITS_MS else ""
        print(f"{name:38s} {value:7.3f} ms{bar}")
    ratio = found["126 layers"] / found["2 layers"]
    print(f"126 layers / 2 layers = {ratio:.2f} (bar {LAYERS:g})")
    good = ratio <= LAYERS and all(found[name] <= bar for name, bar in LIMITS_MS.items())
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
