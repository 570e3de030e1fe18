"""How much of what people download the families describe: ``python benchmarks/coverage.py FILE [--top N]``.

FILE is llmfit's wheel (``pip download --no-deps llmfit``), whose program carries its list of repositories with their
model_type and downloads as JSON, or that list as a JSON file (``llmfit-core/data/hf_models.json``): objects with
``architecture`` and ``hf_downloads``. Printed: the share of downloads whose model_type has a family, whose has a
inventory of weights alone, and the most downloaded types that have neither.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from estimator.families import FAMILIES, recorded

FIELD = b'"hf_downloads"'
MOST = 64 * 1024 * 1024  # bytes of the list within the program; it has 12 MB in 1.1.17


def repositories(path: Path) -> list[dict[str, Any]]:
    """The list of a wheel's program, or of a JSON file."""
    if path.suffix != ".whl":
        found: list[dict[str, Any]] = json.loads(path.read_text())
        return found
    with zipfile.ZipFile(path) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".data/scripts/llmfit"))
        program = wheel.read(name)
    start = program.rfind(b"[\n", 0, program.find(FIELD))
    text = program[start : start + MOST].decode(errors="replace")
    made: list[dict[str, Any]] = json.JSONDecoder().raw_decode(text)[0]
    return made


def downloads(rows: list[dict[str, Any]]) -> Counter[str]:
    """Downloads of each model_type."""
    out: Counter[str] = Counter()
    for row in rows:
        out[str(row.get("architecture"))] += row.get("hf_downloads") or 0
    return out


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--top", type=int, default=20)
    given = parser.parse_args()
    rows = repositories(given.file)
    by = downloads(rows)
    alone = {t for t, at in FAMILIES.items() if hasattr(import_module(f"estimator.families.{at}"), "WEIGHTS_ALONE")}
    families, counted = set(FAMILIES) - alone, alone | (set(recorded.known()) - set(FAMILIES))
    total = sum(by.values())
    print(f"{len(rows):,} repositories, {total:,} downloads, {len(by):,} model types")
    for what, types in (("a family", families), ("an inventory of weights", counted)):
        print(f"{sum(by[t] for t in types) / total:.1%} of downloads have {what}")
    left = [(t, n) for t, n in by.most_common() if t not in FAMILIES and t not in counted]
    for model_type, n in left[: given.top]:
        print(f"  {n / total:.2%}  {model_type}")


if __name__ == "__main__":
    main()
