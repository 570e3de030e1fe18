"""Evaluates the properties as often as asked: ``python -m tests.properties --jobs 8 --evaluations 1000000``.

A task is one property with a few seeds of its own, evaluated on some examples each in a child: ``--only NAME --seed N``
repeats a seed. Tasks take turns over all properties. ``--record FILE`` adds the counts to the record of
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import hypothesis

from tests.fuzz.__main__ import warm
from tests.pool import spread

MODULES = ("test_agreement", "test_any_report", "test_growth")
SECONDS = 300  # of its own, of a task
WAIT = 10  # times as long by the clock, on a machine that does other things too
SEEDS = 10  # of a task, but of those that ask a training run or a search for each evaluation
SLOW = (
    "test_the_largest_fits_and_one_more_does_not", "test_every_suggestion_is_what_its_command_prints",
    "test_derivations_are_the_answer", "test_the_largest_of_an_engine_fits_and_one_more_does_not", "test_money",
)  # fmt: skip
GRACE = 15  # after the minutes, for tasks that run
MARGIN = 1.05  # a task evaluates as many as its examples allow: the planned ones may end a little short


def properties() -> dict[str, Callable[..., None]]:
    """Every property that counts its evaluations, by name."""
    hypothesis.settings.register_profile("apart", database=None)
    hypothesis.settings.load_profile("apart")
    found = [vars(import_module(f"tests.properties.{name}")) for name in MODULES]
    return {k: f for module in found for k, f in module.items() if getattr(f, "is_hypothesis_test", False)}


def evaluate(test: Callable[..., None], seeds: Iterable[int]) -> dict[str, Any]:
    """The evaluations of one task, and what failed of which seed."""
    from tests.properties.holds import TALLY

    TALLY.clear()
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    faults = {seed: fault for seed in seeds if (fault := _fault(test, seed))}
    return {"tally": dict(TALLY), "faults": faults}


def _fault(test: Callable[..., None], seed: int) -> str:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        given: dict[str, Any] = {"tmp_path": Path(folder)} if "tmp_path" in inspect.signature(test).parameters else {}
        try:
            hypothesis.seed(seed)(test)(**given)
        except Exception as error:
            notes = " ".join(getattr(error, "__notes__", []))
            return f"{type(error).__name__}: {str(error)[:600]} {notes[:600]}"
    return ""


def main() -> int:
    """Exit code 1 where a property failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.properties", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--minutes", type=float, help="end after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one property; --seed is then its task's")
    parser.add_argument("--record", type=Path)
    asked = parser.parse_args()
    tests = properties()
    warm()
    from tests.properties.test_agreement import LETTERS, in_letters

    if asked.only:
        done = evaluate(tests[asked.only], [asked.seed])
        print(done["tally"], *done["faults"].values())
        return bool(done["faults"])
    for argv in LETTERS:
        in_letters(*argv)  # before children are made, which would each ask for it
    total: Counter[str] = Counter()
    failed: list[str] = []
    begin = time.time()

    def tasks() -> Iterator[tuple[str, range]]:
        number = asked.seed * 10**6
        while True:
            for name in tests:
                late = asked.minutes and time.time() - begin > asked.minutes * 60
                if late or total.total() >= asked.evaluations * MARGIN:
                    return
                yield name, range(number, number + (1 if name in SLOW else SEEDS))
            number += SEEDS

    end = None if asked.minutes is None else time.monotonic() + asked.minutes * 60 + GRACE
    for (name, seeds), done in spread(
        asked.jobs, tasks(), lambda task: evaluate(tests[task[0]], task[1]), WAIT * SECONDS, end
    ):
        total.update(done["tally"] if done else {})
        for seed, fault in (done["faults"] if done else {seeds[0]: "died or hung"}).items():
            failed.append(f"{name} {seed}")
            print(f"--only {name} --seed {seed}: {fault}", flush=True)
    minutes = (time.time() - begin) / 60
    print(f"seed {asked.seed}: {total.total():,} evaluations in {minutes:.1f} minutes, {len(failed)} failed; {total}")
    if asked.record:
        data: dict[str, Any] = json.loads(asked.record.read_text()) if asked.record.exists() else {}
        data.setdefault("properties", []).append(
            {
                "date": datetime.now(UTC).strftime("%Y-%m-%d"),
                "seed": asked.seed,
                "minutes": round(minutes, 1),
                "failed": len(failed),
                "evaluations": dict(sorted(total.items())),
            }
        )
        asked.record.write_text(json.dumps(data, indent=1) + "\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
