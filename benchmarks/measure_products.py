"""Measure what products reach whose rows start off 16 bytes, and batches of products in fp32, on one GPU.

    python benchmarks/measure_products.py OUT.json          needs torch and a GPU

A linear layer's three products (forward, the input's gradient, the weight's) in bf16 with ``columns`` of the sizes that
vocabularies have, and with inner sides of 4,092 to 4,096; batches [b, m, k] x [b, k, n] in fp32 without TF32, the right
operand transposed (an attention's scores) and not (its values). TFLOP/s, means of ten. tests/accuracy/
product_rates.json is what one H100 gave; ``unaligned`` and ``batched_fp32`` of its preset are the medians.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TIMES = 10
LAYERS = ((4096, 768), (4096, 2048), (4096, 4096), (1024, 1024), (16384, 1024))  # rows, inner side
COLUMNS = (50304, 50264, 50260, 50258, 50257, 30522, 100278, 250002)
INNER = (4095, 4094, 4092, 4088, 4096)
BATCHES = ((568, 512, 64), (142, 1024, 64), (64, 1024, 256), (16, 2048, 64))  # heads of all sequences, tokens, width


def rate(flops: float, run: Callable[[], Any]) -> float:
    """10^12 FLOP/s of ``run`` once warm."""
    for _ in range(3):
        run()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(TIMES):
        run()
    last.record()
    torch.cuda.synchronize()
    return round(flops * TIMES / first.elapsed_time(last) / 1e9, 1)


def layer(rows: int, inner: int, columns: int) -> dict[str, Any]:
    """A linear layer's forward product and both gradients."""
    x, w, g = (torch.randn(s, device="cuda", dtype=torch.bfloat16)
               for s in ((rows, inner), (columns, inner), (rows, columns)))  # fmt: skip
    runs = (lambda: torch.nn.functional.linear(x, w), lambda: g @ w, lambda: g.t() @ x)
    return {"rows": rows, "inner": inner, "columns": columns,
            "tflops": [rate(2.0 * rows * inner * columns, run) for run in runs]}  # fmt: skip


def batch(count: int, tokens: int, width: int) -> dict[str, Any]:
    """Scores and values of an attention in fp32."""
    q, k, p = (torch.randn(s, device="cuda") for s in ((count, tokens, width),) * 2 + ((count, tokens, tokens),))
    flops = 2.0 * count * tokens * tokens * width
    return {"count": count, "tokens": tokens, "width": width,
            "tflops": [rate(flops, lambda: q @ k.transpose(1, 2)), rate(flops, lambda: p @ k)]}  # fmt: skip


def main() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    made = {
        "meta": {"torch": torch.__version__, "device": torch.cuda.get_device_name()},
        "layers": [layer(m, k, n) for m, k in LAYERS for n in COLUMNS] + [layer(4096, k, 4096) for k in INNER],
        "batches": [batch(*b) for b in BATCHES],
    }
    Path(sys.argv[1]).write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
