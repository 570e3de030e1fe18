"""Pack public start-up logs and speeds of serving engines for the tests.

    python tests/engines/make_records.py LOGS.json SPEEDS.json

Both hold {"records": [...]}: each record a model (a preset's name or a config), an engine with its options by their own
names, what its log or a published table says (``want``), how far the log rounds (``tolerance``), and a link. Kept:
engines that the program answers for, and links.

Runs of github.com/inference-sim/training send 45 to 50 prompts over and over (data.shared_prefix of their profile.yaml,
"constant" arrivals) with vLLM's prefix cache on: all whole blocks of a prompt are found (:func:`found`).
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


REPEATED, BLOCK = "vllm-2026-02/", 16
OLD = "0.6.1"


def found(prompt: int) -> float:
    """The share of a repeated prompt that vLLM finds: whole blocks, but never its last token."""
    return (prompt - 1) // BLOCK * BLOCK / prompt


def main() -> None:
    """Write records.json.gz."""
    out = {}
    for name, path in zip(("logs", "speeds"), sys.argv[1:3], strict=True):
        records = json.loads(Path(path).read_text())["records"]
        out[name] = [{k: r[k] for k in FIELDS if r.get(k)} for r in records if r["engine"] in ENGINES]
    versions = {r["id"]: r["version"] for r in json.loads(Path(sys.argv[2]).read_text())["records"]}
    for r in out["speeds"]:
        if r["id"].startswith(REPEATED):
            r["extra_options"] = {"prefix-hit": found(r["isl"])}
        elif versions[r["id"]] == OLD:  # its attention read keys and values once a query head
            r["extra_options"] = {"engine-version": OLD}
    data = json.dumps(out, sort_keys=True, separators=(",", ":")).encode()
    (HERE / "records.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main()
