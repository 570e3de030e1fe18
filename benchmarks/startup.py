"""Start-up of whole processes, interleaved, medians: the cost of a cold command against a hello-world.

    python benchmarks/startup.py [--runs 15] [--check]

Bars (--check exits with 1 above them): a table at most 1.25 times a typer + rich + pydantic program that prints one
table; JSON at most 1.0 times; --version at most 3 times bare Python.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

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
MAIN = ("peft", "--method", "lora", "--rank", "8")
LLMCALC = (sys.executable, "-m", "estimator")
BARS = {"table": ("hello", 1.25), "json": ("hello", 1.0), "version": ("python", 3.0)}


def commands() -> dict[str, Sequence[str]]:
    return {
        "python": (sys.executable, "-c", "pass"),
        "hello": (sys.executable, "-c", HELLO),
        "table": (*LLMCALC, *MAIN),
        "json": (*LLMCALC, *MAIN, "--format", "json"),
        "help": (*LLMCALC, "peft", "--help"),
        "version": (*LLMCALC, "--version"),
        "derive": (*LLMCALC, *MAIN, "--derive"),
    }


def wall(argv: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in commands()}
    for name, argv in commands().items():
        wall(argv)  # compiles, warms the page cache
        times[name].clear()
    for _ in range(args.runs):
        for name, argv in commands().items():
            times[name].append(wall(argv))
    median = {name: statistics.median(found) for name, found in times.items()}
    for name, value in median.items():
        print(f"{name:8s} median {1000 * value:6.1f} ms   min {1000 * min(times[name]):6.1f} ms")
    good = True
    for name, (base, bar) in BARS.items():
        ratio = median[name] / median[base]
        good &= ratio <= bar
        print(f"{name} / {base} = {ratio:.2f} (bar {bar})")
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
