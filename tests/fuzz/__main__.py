"""Attacks the command line as often as asked: ``python -m tests.fuzz --minutes 60`` (``make fuzz``).

``--jobs 8 --inputs 1000000`` tries a million in eight processes. Inputs are made by kind, seed and number alone:
``--kind configs --seed 7 --only 123`` makes one again and shows it.
Children of one warm process run them, so that neither a crash nor a hang ends the search. ``--record FILE`` adds what
was tried and found to a JSON file, from which docs/reliability.md is generated.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import select
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from random import Random
from typing import Any

import estimator
from estimator import presets
from estimator.models import load_model
from tests.fuzz.inputs import KINDS
from tests.fuzz.judge import judge
from tests.fuzz.surface import FORMATS, gpus, keep_commands, known, models, named, surfaces
from tests.pool import spread

# of a round, which one child runs: searches and fits take a hundred times as long as the rest
SHARES = {
    "options": 60,
    "configs": 60,
    "safetensors": 30,
    "gguf": 40,
    "scenarios": 30,
    "cards": 20,
    "runs": 1,
    "logs": 20,
    "measurements": 5,
    "adapters": 40,
    "steps": 4,
    "servers": 4,
}
# asked before children are made: what they would each import and read
FIRST = (
    ["memory", "--mode", "training", "--derive"],
    ["peft", "--method", "lora", "--derive"],
    ["infer", "--gpu", "h100-sxm"],
    ["train", "--gpu", "h100-sxm", "--tokens", "1G"],
    ["zero", "--gpus", "8"],
    ["chinchilla", "--compute", "1e21"],
)
SHM = Path("/dev/shm")  # where there is one: a file that is written again and again waits for no disk
TOGETHER = 10  # rounds of a child: what is kept of an input's models and steps serves the next
MEMORY = 2**30  # bytes that an input may take beside the program itself
STALL = 90  # seconds of its own after which a child that says nothing is ended
WAIT = 10  # times as long by the clock, on a machine that does other things too


def warm() -> None:
    """Import everything once and read what inputs are made from, so that children do not."""
    for module in walk_packages(estimator.__path__, "estimator."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in ("sympy", "numpy", "rich.console", "rich.table"):
        import_module(name)
    keep_commands()
    for command in surfaces():
        for option in command.options:
            if option.valued and option.flag != "--output" and named(option):
                known(command.words, option.flag)
    for name in models():
        load_model(name)
    for name in gpus():
        presets.load_gpu(name)
    for argv in FIRST:
        for output in FORMATS:
            judge([*argv, "--format", output])
    gc.collect()
    gc.freeze()  # pages of what is there already stay shared


def one(kind: str, seed: int, number: int, folder: Path) -> tuple[list[str], int, list[str]]:
    """(words, exit code, faults) of one input."""
    argv, output = KINDS[kind](Random(f"{seed}:{kind}:{number}"), folder)
    code, faults = judge(argv, output)
    return argv, code, faults


def _child(work: list[tuple[str, int]], seed: int, pipe: int) -> None:
    gc.set_threshold(10_000, 20, 20)
    where = SHM if os.access(SHM, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="llmcalc-fuzz", dir=where) as name, os.fdopen(pipe, "w") as out:
        folder, here = Path(name) / "files", Path(name) / "here"
        folder.mkdir()
        here.mkdir()
        os.chdir(here)
        os.environ |= {"HOME": str(here), "HF_HOME": str(here / "hf"), "COLUMNS": "100"}
        resource.setrlimit(resource.RLIMIT_AS, (12 * MEMORY, 12 * MEMORY))
        least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for kind, number in work:
            print(json.dumps({"start": [kind, number]}), file=out, flush=True)
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + STALL, resource.RLIM_INFINITY))
            argv, code, faults = one(kind, seed, number, folder)
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if (most - least) * 1024 > MEMORY:
                faults.append(f"{(most - least) / 2**20:.1f} GiB")
            print(
                json.dumps({"done": [kind, number], "code": code, "faults": faults, "argv": argv}), file=out, flush=True
            )
            if (most - least) * 1024 > MEMORY / 2:
                return  # what follows is measured afresh
            for found in folder.iterdir():
                if found.is_file():
                    found.unlink()
                else:
                    shutil.rmtree(found)


def batch(work: list[tuple[str, int]], seed: int) -> list[dict[str, Any]]:
    """What became of each input of a batch; the rest after a child that died or stalled is left out."""
    read, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.close(read)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _child(work, seed, end)
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)
    os.close(end)
    done: list[dict[str, Any]] = []
    last: tuple[str, int] | None = None
    with os.fdopen(read) as lines:
        while select.select([lines], [], [], WAIT * STALL)[0]:
            text = lines.readline()
            if not text:
                break
            found = json.loads(text)
            if "start" in found:
                last = tuple(found["start"])
            else:
                done.append(found)
                last = None
        else:
            os.kill(pid, 9)
    os.waitpid(pid, 0)
    if last is not None:
        done.append({"done": list(last), "code": None, "faults": ["the process died or hung"], "argv": []})
    return done


def some_rounds(kinds: Sequence[str], seed: int, numbers: Sequence[int]) -> list[list[Any]]:
    """(kind and number, exit code, faults, words where there are faults) of each input of the rounds."""
    out: list[list[Any]] = []
    work = [(kind, n * SHARES[kind] + i) for n in numbers for kind in kinds for i in range(SHARES[kind])]
    while work:
        done = batch(work, seed)
        out += [[d["done"], d["code"], d["faults"], d["argv"] if d["faults"] else []] for d in done]
        if not done:
            raise RuntimeError("a child ended without a word")
        work = work[len(done) :]
    return out


def record(
    path: Path, seed: int, tried: Counter[str], codes: Counter[str], found: Counter[str], seconds: float
) -> None:
    """Add a search to the record."""
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    data.setdefault("fuzz", []).append(
        {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seed": seed,
            "minutes": round(seconds / 60, 1),
            "inputs": dict(sorted(tried.items())),
            "codes": dict(sorted(codes.items())),
            "found": dict(sorted(found.items())),
        }
    )
    path.write_text(json.dumps(data, indent=1) + "\n")


def main() -> int:
    """Exit code 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="only these kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="the first round's number")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--inputs", type=int, help="end after so many")
    parser.add_argument("--minutes", type=float, help="end after so long (default without --rounds and --inputs: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", type=int, help="one input, shown")
    parser.add_argument("--record", type=Path)
    asked = parser.parse_args()
    kinds = asked.kind or [*KINDS]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background too, where shells ignore it
    warm()
    if asked.only is not None:
        with tempfile.TemporaryDirectory() as name:
            argv, code, faults = one(kinds[0], asked.seed, asked.only, Path(name))
            print(shlex.join(argv), "->", code, *faults, sep="\n")
            for path in sorted(p for p in Path(name).rglob("*") if p.is_file()):
                print(f"--- {path.name}\n{path.read_bytes()[:4000].decode(errors='replace')}")
        return bool(faults)
    tried: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    found: Counter[str] = Counter()
    begin = time.time()
    minutes = asked.minutes or (None if asked.rounds or asked.inputs else 1.0)

    each = sum(SHARES[kind] for kind in kinds)
    wanted = [n for n in (asked.rounds, asked.inputs and -(-asked.inputs // each)) if n]
    end = asked.start + min(wanted) if wanted else None

    def rounds() -> Iterator[range]:
        number = asked.start
        while (end is None or number < end) and not (minutes and time.time() - begin >= minutes * 60):
            stop = number + TOGETHER if end is None else min(number + TOGETHER, end)
            yield range(number, stop)
            number = stop

    try:
        for numbers, done in spread(asked.jobs, rounds(), partial(some_rounds, kinds, asked.seed), 3600):
            if done is None:
                print(f"rounds {numbers} ended without a word", file=sys.stderr)
                return 1
            for (kind, i), code, faults, argv in done:
                tried[kind] += 1
                codes[str(code)] += 1
                if faults:
                    found[kind] += 1
                    print(f"{kind} {i}: {faults}\n    llmcalc {shlex.join(argv)[:400]}", flush=True)
    except KeyboardInterrupt:  # what was tried until then counts
        print("interrupted", file=sys.stderr)
    seconds = time.time() - begin
    print(
        f"seed {asked.seed}: {tried.total():,} inputs in {seconds / 60:.1f} minutes, "
        f"{found.total()} found; {dict(tried)}; exit codes {dict(codes)}"
    )
    if asked.record:
        record(asked.record, asked.seed, tried, codes, found, seconds)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
