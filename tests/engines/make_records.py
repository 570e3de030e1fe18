"""Pack public start-up logs and speeds of serving engines for the tests.

    python tests/engines/make_records.py LOGS.json SPEEDS.json

Both hold {"records": [...]}: each record a model (a preset's name or a config), an engine with its options by their own
names, what its log or a published table says (``want``), how far the log rounds (``tolerance``), and a link. Kept:
engines that the program answers for, and links.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENGINES = ("vllm", "sglang", "tensorrt-llm")
FIELDS = ("id", "engine", "ask", "model", "config", "gpu", "gpus", "options", "extra_options", "want", "tolerance",
          "link", "batch", "isl", "osl", "dtype", "quantization", "kv_dtype", "loaded")  # fmt: skip


def main() -> None:
    """Write records.json.gz."""
    out = {}
    for name, path in zip(("logs", "speeds"), sys.argv[1:3], strict=True):
        records = json.loads(Path(path).read_text())["records"]
        out[name] = [{k: r[k] for k in FIELDS if r.get(k)} for r in records if r["engine"] in ENGINES]
    data = json.dumps(out, sort_keys=True, separators=(",", ":")).encode()
    (HERE / "records.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main()
