"""Whole processes, interleaved: the CPU of a cold command against a hello-world of the same libraries, in one run.

    python benchmarks/startup.py [--runs 9] [--check] [--margin 1.0]

Bars (--check exits with 1 above them, each times --margin): any table 1.0 of a typer + rich + pydantic program that
prints one table, JSON 0.75, a table with --gpu 1.0, one that does not fit, with its advice, 1.25; --derive 1.5 of that
program and ``import sympy`` together; --version 3.0 of bare Python; ``import estimator.api`` 15 ms more than bare
Python. CPU seconds are the user's and the system's of the process and its children, medians; Python may keep compiled
modules, as where it is installed. Other calculators are timed beside where they are on the path (--help, as their
arguments differ).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HELLO = """
from typing import Annotated
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

class Request(BaseModel):
    name: str
    rank: int = 8

app = typer.Typer(add_completion=False)

@app.command()
def hello(
    name: Annotated[str, typer.Option(help="a name")] = "world", rank: Annotated[int, typer.Option(help="a rank")] = 8
) -> None:
    request = Request(name=name, rank=rank)
    table = Table("name", "rank")
    table.add_row(request.name, str(request.rank))
    Console().print(table)

app()
"""
PEFT, TRAINING = "peft --method lora --rank 8", "memory --mode training"
TRAIN = "train --tokens 1e9"
# bar -> the command lines that it holds for
TABLES = (
    PEFT, "memory", TRAINING, "zero --params 7.5e9 --gpus 64", "kvcache", "flops", TRAIN, "infer", "models", "gpus",
    "chinchilla --compute 1e23", "fermi gpt3-cost",
)  # fmt: skip
ON_GPU = ("memory --gpu h100", "kvcache --gpu h100", f"{TRAIN} --gpu h100")
DERIVED = (PEFT, "memory", TRAINING, "zero --params 7.5e9 --gpus 64", "kvcache", "flops", TRAIN, "infer",
           "chinchilla --compute 1e23", "fermi gpt3-cost")  # fmt: skip
IMPORT, IMPORT_MS = "import estimator.api", 15.0
OTHERS = ("vramcalc", "ridgepoint", "fitcheck", "vramscout", "llm-sizer")


def bars() -> dict[str, tuple[str, float]]:
    """Every command line with what it is held to and the bar."""
    out = dict.fromkeys((*TABLES, *ON_GPU), ("hello", 1.0))
    out |= {f"{line} --format json": ("hello", 0.75) for line in (PEFT, "memory")}
    out[f"{TRAINING} --gpu rtx-4090"] = ("hello", 1.25)
    out |= {f"{line} --derive": ("hello + sympy", 1.5) for line in DERIVED}
    out["--version"] = ("python", 3.0)
    return out


def processes() -> dict[str, Sequence[str]]:
    """Everything that is timed, by name."""
    python = sys.executable
    bare = {"python": "pass", "hello": HELLO, "import sympy": "import sympy", IMPORT: IMPORT}
    out: dict[str, Sequence[str]] = {name: (python, "-c", code) for name, code in bare.items()}
    out |= {line: (python, "-m", "estimator", *line.split()) for line in bars()}
    out["memory --help"] = (python, "-m", "estimator", "memory", "--help")
    return out | {f"{name} --help": (name, "--help") for name in OTHERS if shutil.which(name)}


def cpu(argv: Sequence[str], env: dict[str, str]) -> float:
    """Seconds of CPU that a process takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, capture_output=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(runs: int) -> dict[str, float]:
    """Medians, the processes taken in turn, so that all meet the same noise."""
    root = str(Path(__file__).resolve().parents[1])
    times: dict[str, list[float]] = {name: [] for name in processes()}
    with tempfile.TemporaryDirectory() as kept:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env |= {"PYTHONPYCACHEPREFIX": kept, "PYTHONPATH": os.pathsep.join([root, env.get("PYTHONPATH", "")])}
        for turn in range(runs + 1):  # the first compiles
            for name, argv in processes().items():
                seconds = cpu(argv, env)
                if turn:
                    times[name].append(seconds)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--margin", type=float, default=1.0)
    args = parser.parse_args()
    median = measured(args.runs)
    median["hello + sympy"] = median["hello"] + median["import sympy"] - median["python"]
    good = True
    for name, seconds in median.items():
        base, bar = bars().get(name, ("hello", None))
        ratio = seconds / median[base]
        over = bar is not None and ratio > bar * args.margin
        good &= not over
        held = "" if bar is None else f"  bar {bar:g}{'  OVER' if over else ''}"
        print(f"{name:46s} {1000 * seconds:7.1f} ms  {ratio:5.2f} of {base}{held}")
    taken = 1000 * (median[IMPORT] - median["python"])
    good &= taken <= IMPORT_MS * args.margin
    print(f"{IMPORT:46s} {taken:7.1f} ms more than python  bar {IMPORT_MS:g}")
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
