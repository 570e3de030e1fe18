"""Seconds of a search of ``plan train`` over at least 100,000 layouts, from the question to its rows.

    python benchmarks/plan.py [--check] [--margin 1.0]

Seconds are this process's CPU; the bar (--check exits with 1 above it, times --margin) is 10 s for 100,000 layouts.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from estimator.commands.plan.pretrain import Search
from estimator.commands.plan.question import PreTrain
from estimator.questions import ask

SECONDS, LAYOUTS = 10.0, 100_000
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("llama-3-70b", {"gpus": "256..8192", "gpu": "h100-sxm,h200,b200,a100-80gb", "tokens": "15T"}),
    ("mixtral-8x22b", {"gpus": "64..2048", "gpu": "h100-sxm,h200", "tokens": "5T"}),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--margin", type=float, default=1.0)
    args = parser.parse_args()
    good = True
    for model, options in CASES:
        q = ask(PreTrain, model, options)
        start = time.process_time()
        search = Search(q)
        rows = search.rows(q.top)
        spent = time.process_time() - start
        bar = SECONDS * search.tried / LAYOUTS
        print(f"{model}: {spent:.2f} s for {search.tried:,} layouts, {search.fit:,} fit, {len(rows)} asked of train "
              f"(bar {bar:.1f} s)")  # fmt: skip
        good &= search.tried >= LAYOUTS and spent <= bar * args.margin
    return 0 if good or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
