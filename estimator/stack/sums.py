"""What PyTorch allocates for a sum over rows beside the result: blocks that share an output meet in global memory.

Source: aten/src/ATen/native/cuda/Reduce.cuh of torch 2.11 (setReduceConfig, ReduceConfig.global_memory_size). Seen in
the allocator's trace of one H100: 64, 48 and 16 MiB for biases of 4,096, 3,072 and 1,024 over 2,048 tokens.
"""

from __future__ import annotations

from typing import Any

from estimator.ops import ceil_div, maximum, minimum

WIDE, HIGH = 32, 4  # threads of a block along outputs and along rows, where a thread takes four outputs at a time
VECTOR = 4
LEAST, MOST = 16, 256  # values a thread: min_values_per_thread, max_values_per_thread
HOPPER_THREADS = 132 * 2048  # that are resident at once on an H100


def scratch(rows: Any, n: Any, threads: Any) -> Any:
    """Bytes of partial sums in fp32 while ``n`` outputs are summed over ``rows`` rows; 0 where no block shares one."""
    each = ceil_div(rows, HIGH)
    blocks = ceil_div(n, VECTOR * WIDE)
    most = threads // (WIDE * HIGH)
    if n < VECTOR * WIDE or each < MOST or blocks > most:
        return 0
    shared = maximum(minimum(ceil_div(most, blocks), ceil_div(each, LEAST)), ceil_div(each, MOST))
    return 4 * n * shared * WIDE * VECTOR if shared > 1 else 0
