"""Evaluates the properties as often as asked: ``python -m tests.properties --jobs 8 --evaluations 1000000``.

A task is one property with a seed of its own, evaluated on some examples in a child: ``--only NAME --seed N`` repeats
it. Tasks take turns over all properties. ``--record FILE`` adds the counts to the record of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
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
SECONDS = 300  # of a task
GRACE = 15  # after the minutes, for tasks that run
MARGIN = 1.05  # a task evaluates as many as its examples allow: the planned ones may end a little short


def properties() -> dict[str, Callable[..., None]]:
    """Every property that counts its evaluations, by name."""
    hypothesis.settings.register_profile("apart", database=None)
    hypothesis.settings.load_profile("apart")
    found = [vars(import_module(f"tests.properties.{name}")) for name in MODULES]
    return {k: f for module in found for k, f in module.items() if getattr(f, "is_hypothesis_test", False)}


def evaluate(test: Callable[..., None], seed: int) -> dict[str, Any]:
    """The evaluations of one task, and what failed."""
    from tests.properties.asked import TALLY

    TALLY.clear()
    fault = ""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        given: dict[str, Any] = {"tmp_path": Path(folder)} if "tmp_path" in inspect.signature(test).parameters else {}
        try:
            hypothesis.seed(seed)(test)(**given)
        except Exception as error:
            notes = " ".join(getattr(error, "__notes__", []))
            fault = f"{type(error).__name__}: {str(error)[:600]} {notes[:600]}"
    return {"tally": dict(TALLY), "fault": fault}


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
    if asked.only:
        done = evaluate(tests[asked.only], asked.seed)
        print(done["tally"], done["fault"])
        return bool(done["fault"])
    total: Counter[str] = Counter()
    failed: list[str] = []
    begin = time.time()

    def tasks() -> Iterator[tuple[str, int]]:
        number = asked.seed * 10**6
        while True:
            for name in tests:
                late = asked.minutes and time.time() - begin > asked.minutes * 60
                if late or total.total() >= asked.evaluations * MARGIN:
                    return
                yield name, number
            number += 1

    end = None if asked.minutes is None else time.monotonic() + asked.minutes * 60 + GRACE
    for (name, number), done in spread(
        asked.jobs, tasks(), lambda task: evaluate(tests[task[0]], task[1]), SECONDS, end
    ):
        total.update(done["tally"] if done else {})
        if done is None or done["fault"]:
            fault = "died or hung" if done is None else done["fault"]
            failed.append(f"{name} {number}")
            print(f"--only {name} --seed {number}: {fault}", flush=True)
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
