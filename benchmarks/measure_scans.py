"""Measure prefills and training steps of recurrent layers on the slow path that transformers takes without mamba-ssm.

    python benchmarks/measure_scans.py OUT.json     needs torch, transformers and one GPU

Layers of Codestral-Mamba (Mamba 2) and Falcon-Mamba in bf16, two and four of them: the difference is two layers'.
Seconds are medians of three, from an idle GPU to an idle GPU; a step is a forward and a backward pass.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

SHAPES = {
    "mamba2": {"hidden_size": 4096, "num_heads": 128, "head_dim": 64, "state_size": 128, "n_groups": 8,
               "chunk_size": 256},
    "falcon_mamba": {"hidden_size": 4096, "state_size": 16},
}  # fmt: skip
CASES = (("mamba2", 1, 512), ("mamba2", 1, 1024), ("falcon_mamba", 1, 256), ("falcon_mamba", 1, 512))


def config(kind: str, layers: int) -> dict[str, Any]:
    return {"model_type": kind, "num_hidden_layers": layers, "vocab_size": 1024, "expand": 2} | SHAPES[kind]


def seconds(run: Callable[[], Any]) -> float:
    found = []
    for _ in range(5):  # the first two warm up
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return sorted(found[2:])[1]


def measured(kind: str, layers: int, batch: int, seq: int) -> dict[str, Any]:
    fields = config(kind, layers)
    made = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    torch.set_default_dtype(torch.float32)
    ids = torch.zeros(batch, seq, dtype=torch.long, device="cuda")

    def step() -> None:
        model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        model.zero_grad(set_to_none=True)

    def prefill() -> None:
        with torch.no_grad():
            model.eval()(input_ids=ids, use_cache=True)

    return {"prefill_s": seconds(prefill), "step_s": seconds(step)}


def main() -> None:
    about = {"device": torch.cuda.get_device_name(0), "torch": torch.__version__,
             "transformers": transformers.__version__}  # fmt: skip
    cases = []
    for kind, batch, seq in CASES:
        for layers in (2, 4):
            row = {"kind": kind, "layers": layers, "batch": batch, "seq": seq} | measured(kind, layers, batch, seq)
            cases.append(row)
            print(row, flush=True)
    Path(sys.argv[1]).write_text(json.dumps({"about": about, "shapes": SHAPES, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
