"""Renew stacks.json.gz and peers.json.gz from the measurements they were taken from.

``python make_stacks.py STACKS.json PEERS.json``: STACKS holds the steps of transformers.Trainer, TRL, Liger,
bitsandbytes and torch.compile that were measured on one H100 80GB (torch 2.11, transformers 5.17, trl 1.16,
bitsandbytes 0.50, liger-kernel 0.8; each in a process of its own, random weights, the last of four steps). PEERS holds
what two other calculators ship as measured in their source distributions: fitcheck-llm 0.3.1 (a Tesla T4) and vramcalc
0.1.2 (an RTX A6000). Only the config, the options, the peaks and the source of each are kept.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEAKS = ("peak_allocated", "reserved", "start", "fwd_bwd_peak", "step_peak", "peak_forward", "peak_backward")


def main() -> None:
    for source, target in zip(sys.argv[1:3], ("stacks", "peers"), strict=True):
        data = json.loads(Path(source).read_text())
        cases = [
            {
                "id": c["id"], "config": c["config"], "options": c["options"], "versions": c.get("versions"),
                "source": str(c["source"]) if target == "peers" else "",
                "measured": {k: c["measured"][k] for k in PEAKS if k in c["measured"]},
            }
            for c in data["cases"]
        ]  # fmt: skip
        meta = {k: v for k, v in data["meta"].items() if k != "about"}
        out = {"meta": meta, "cases": cases}
        with gzip.GzipFile(HERE / f"{target}.json.gz", "wb", mtime=0) as f:
            f.write(json.dumps(out, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
