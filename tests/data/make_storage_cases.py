"""Writes storage_cases.json.gz: checkpoints' configs with the exact bytes of their weights.

Give it a JSON file of records ``{id, files: {name: content}, weights_bytes, how}``; it keeps what the tests read. The
bytes were counted on the meta device with transformers 5.24 (FP8Linear, FP8Experts, FbgemmFp8Linear, the modules that
bitsandbytes replaces), compressed-tensors 0.20 (ModelCompressor.compress_model), torchao 0.18 and hqq 0.2.8, and by the
published tensor shapes of AutoAWQ, GPTQModel, ModelOpt and MLX; ``how`` says which.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path


def main(source: str) -> None:
    """Read the records, drop the maps of an index's tensors but one, and write them."""
    records = json.loads(Path(source).read_text())["records"]
    for record in records:
        index = record["files"].get("model.safetensors.index.json")
        if index:
            index["weight_map"] = dict(list(index["weight_map"].items())[:1])
    out = Path(__file__).with_name("storage_cases.json.gz")
    text = json.dumps(records, sort_keys=True).encode()
    out.write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])
