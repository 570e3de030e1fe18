"""Warm calls of the Python API: medians of many, each of another batch and length: no answer is one given before.

All calls are timed three times over and the least median counts: what else a shared machine does in some seconds only
adds, up to as much again, while what a call itself takes is in all three.

    python benchmarks/api.py [--runs 50] [--check] [--margin 1.0]

Bars in ms (--check exits with 1 above them, each times --margin): a memory estimate of inference 0.5, of a training
step 0.7, with LoRA and checkpointing 1.0, infer 5, kvcache with a GPU 3, a training step of the largest hybrid 3; 126
layers at most 1.2 times what 2 layers cost; at most 1 MiB more after 10,000 further calls. Beside each median
stands that of the first dozen calls, which are simulated one by one (estimator/sweep/again.py).
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
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


Call = Callable[[int, int], Any]  # of a batch and a length
FIRST, WARM = 12, 100  # calls that are run as the first of a process are; calls before the median
ROUNDS = 3  # over all calls


def medians(call: Call, runs: int, begin: int) -> tuple[float, float]:
    """Milliseconds of CPU: the medians of the first calls and of ``runs`` warm ones; the ``begin``-th sizes and on."""
    times = []
    for i in range(begin, begin + WARM + runs):
        start = time.process_time()
        call(1 + i % 5, 1500 + 7 * i)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times[:FIRST]), statistics.median(times[WARM:])


def grown(calls: Sequence[Call]) -> float:
    """MiB that the process's most memory grew by over 10,000 calls: the lesser of the second 10,000 and the third.

    Records are made during the first. The interpreter takes memory a MiB at a time, once in some ten thousand calls;
    what is kept of each call grows in both.
    """
    most = []
    for thousand in range(30):
        for i in range(1000):
            calls[i % len(calls)](1 + i % 7, 100 + 10 * i + thousand)
        gc.collect()
        most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return min(most[19] - most[9], most[29] - most[19])


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
    calls: dict[str, Call] = {
        "memory, inference": lambda b, s: api.memory(model, batch_size=b, seq_len=s),
        "memory, training": lambda b, s: api.memory(model, batch_size=b, seq_len=s, **step),
        "memory, training, LoRA, checkpointing": lambda b, s: api.memory(model, batch_size=b, seq_len=s, **lora),
        "infer": lambda b, s: api.infer(model, batch_size=b, seq_len=s),
        "kvcache --gpu": lambda b, s: api.kvcache(model, batch_size=b, seq_len=s, gpu="h100"),
        "memory, training, Jamba": lambda b, s: api.memory(jamba, batch_size=b, seq_len=s, **step),
        "memory, training, Qwen3-Next": lambda b, s: api.memory(qwen, batch_size=b, seq_len=s, **step),
        "does not fit, advice": lambda b, s: api.memory(model, batch_size=b, seq_len=s, gpu="rtx-4090", **step),
        "peft": lambda b, s: api.peft(model, "lora", rank=s % 64 + 1),
        "kvcache": lambda b, s: api.kvcache(model, batch_size=b, seq_len=s),
        "flops": lambda b, s: api.flops(model, batch_size=b, seq_len=s),
        "126 layers": lambda b, s: api.memory(deep, batch_size=b, seq_len=s, **step),
        "2 layers": lambda b, s: api.memory(shallow, batch_size=b, seq_len=s, **step),
    }
    rounds = [
        {name: medians(call, args.runs, i * (WARM + args.runs)) for name, call in calls.items()} for i in range(ROUNDS)
    ]
    first = {name: found for name, (found, _) in rounds[0].items()}
    found = {name: min(one[name][1] for one in rounds) for name in calls}
    good = True
    for name, value in found.items():
        bar = BARS_MS.get(name)
        good &= bar is None or value <= bar * args.margin
        print(f"{name:38s} {value:7.3f} ms, at first {first[name]:7.3f}" + (f"  (bar {bar:g})" if bar else ""))
    ratio = found["126 layers"] / found["2 layers"]
    more = grown([call for name, call in calls.items() if name.startswith("memory") or name == "kvcache --gpu"])
    print(f"126 layers / 2 layers = {ratio:.2f} (bar {LAYERS:g})")
    print(f"grown over 10,000 further calls: {more:.2f} MiB (bar {LEAK_MIB:g})")
    good &= ratio <= LAYERS * args.margin and more <= LEAK_MIB
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
