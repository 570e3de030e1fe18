"""Configurations a second of ``sweep``: a training peak of a Llama, and the slowest of all families.

    python benchmarks/sweep.py [--rows 1000000] [--families] [--check] [--margin 1.0]

Seconds are this process's CPU, numpy's included. Bars (--check exits with 1 below them, each over --margin): 1e6 a
second for the Llama, with recording; with --families 1e5 for every other, over 1e6 rows; 1 GiB for a process that
writes ten million rows.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from estimator import api, presets

LLAMA, WORST = 10**6, 10**5
MIB = 1024  # at the most, to write ten million rows
KEYS = ["peak.allocated_bytes"]


def rate(model: str, mode: str, rows: int, most: int = 65536) -> tuple[float, int]:
    """(configurations a second, rows) of a sweep over batches and lengths."""
    batches = 64
    step = max(1, batches * most // rows)
    sizes = {"batch_size": range(1, batches + 1), "seq_len": range(step, most + 1, step)}
    options: dict[str, Any] = {"mode": mode, **sizes}
    start = time.process_time()
    found = api.sweep("memory", model, keys=KEYS, **options)
    return len(found) / (time.process_time() - start), len(found)


def written() -> int:
    """MiB that a process takes at the most which writes ten million rows."""
    line = "sweep memory llama-3-8b --mode training --batch-size 1:1000 --seq-len 1:10000 --keys peak.allocated_bytes"
    subprocess.run([sys.executable, "-m", "estimator", *line.split()], check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def families() -> dict[str, str]:
    """A preset of each family."""
    found: dict[str, str] = {}
    for name in presets.ids("models"):
        found.setdefault(presets.load_model_preset(name)[1]["config"]["model_type"], name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--families", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--margin", type=float, default=1.0)
    args = parser.parse_args()
    api.sweep("memory", "gpt2", mode="training", seq_len=range(1, 20), keys=KEYS)  # imports
    speed, rows = rate("llama-3-8b", "training", args.rows)
    print(f"llama-3-8b training: {speed:12,.0f} a second ({rows:,} rows; bar {LLAMA:,})")
    good = speed >= LLAMA / args.margin
    for family, name in sorted(families().items()) if args.families else ():
        for mode in ("training", "inference"):
            model = api.load_model(name)
            if mode == "inference" and model.architecture.counted_only:
                continue
            most = min(model.architecture.max_positions or 65536, 65536)
            speed, rows = rate(name, mode, args.rows, most)
            good &= speed >= WORST / args.margin or rows < args.rows // 2
            print(f"{family:18s} {name:28s} {mode:9s} {speed:12,.0f} a second ({rows:,} rows)", flush=True)
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MiB")
    most = written()
    good &= most <= MIB
    print(f"10,000,000 rows of CSV: most memory {most:,} MiB (bar {MIB:,})")
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
