"""Write recorded_cases.json.gz: what classes of ``presets/counts.jsonl.gz`` hold at sizes that are not in the record.

Needs torch and transformers (5.24.0 when the file was written); the tests do not. Every second recorded class is built
on the meta device at two sizes, and with each of its flags, from a config as ``save_pretrained`` writes it. A record:

config   as it would stand in a config.json
total    parameters; shapes: of the distinct ones, with how often each occurs

Run: PYTHONPATH=. python tests/data/make_recorded_cases.py
"""

from __future__ import annotations

import gzip
import json
import sys
from math import prod
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from class_record import STARTS
from class_walk import Walk, written
from record_counts import read

ROOT = Path(__file__).parents[2]
EVERY = 2


def main() -> None:
    """Write the fixture beside this file."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity_error()
    _, records = read(ROOT / "presets" / "counts.jsonl.gz")
    out: list[dict[str, Any]] = []
    for kind in sorted(records)[::EVERY]:
        record = records[kind]
        walk = Walk(CONFIG_MAPPING[kind], getattr(transformers, record["class"]), STARTS.get(kind))
        for raw, shapes in written(walk, record):
            total = sum(prod(s) * n for s, n in shapes.items())
            out.append({"config": raw, "total": total, "shapes": sorted([list(s), n] for s, n in shapes.items())})
    path = Path(__file__).with_name("recorded_cases.json.gz")
    path.write_bytes(gzip.compress(json.dumps(out, separators=(",", ":")).encode(), 9, mtime=0))
    print(len(out), "records,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
