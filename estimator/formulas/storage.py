"""Bytes of one matrix in each storage format, as the libraries lay it out (:mod:`estimator.storage`: whole models)."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.ops import ceil_div
from estimator.units import BYTES

BLOCK = 64  # bitsandbytes' default block of 4-bit codes
SCALE_BLOCK = 256  # block of the second quantisation
FP32, FP16, INT32 = 4, 2, 4  # bytes
GROUP = 128  # inputs that share a scale in the GPTQ and AWQ checkpoints in use
TILE = 128  # DeepSeek-V3's weight blocks are 128 x 128
CODE_BITS, BYTE = 4, 8


@formula(unit=BYTES, cite="bitsandbytes functional.py quantize_4bit; Dettmers et al. 2023, arXiv 2305.14314, section 3")
def nf4_bytes(n: Any) -> Any:
    """n codes of 4 bits and one fp32 absmax for each block of 64. The table of 16 levels is not counted."""
    return ceil_div(n * CODE_BITS, BYTE) + FP32 * ceil_div(n, BLOCK)


@formula(
    unit=BYTES,
    cite="bitsandbytes quantize_4bit, compress_statistics; Dettmers et al. 2023, arXiv 2305.14314, section 3",
)
def nf4_dq_bytes(n: Any) -> Any:
    """Double quantisation: an 8-bit absmax a block, one fp32 scale for 256 of those, one fp32 mean a tensor."""
    blocks = ceil_div(n, BLOCK)
    return ceil_div(n * CODE_BITS, BYTE) + blocks + FP32 * ceil_div(blocks, SCALE_BLOCK) + FP32


@formula(
    unit=BYTES,
    cite="bitsandbytes nn/modules.py Linear8bitLt, Int8Params (CB, SCB); Dettmers et al. 2022, arXiv 2208.07339",
)
def llm_int8_bytes(n_in: Any, n_out: Any) -> Any:
    """LLM.int8(): one byte a weight and one fp32 scale for each output row."""
    return n_in * n_out + FP32 * n_out


@formula(
    unit=BYTES,
    cite="GPTQModel nn_modules/qlinear (qweight, qzeros, scales, g_idx); Frantar et al. 2022, arXiv 2210.17323",
)
def gptq_bytes(n_in: Any, n_out: Any) -> Any:
    """4-bit codes and zero points packed in int32, fp16 scales for 128 inputs, an int32 group index an input."""
    groups = ceil_div(n_in, GROUP)
    packed = INT32 * ceil_div(n_in * CODE_BITS, 32) * n_out + INT32 * groups * ceil_div(n_out * CODE_BITS, 32)
    return packed + FP16 * groups * n_out + INT32 * n_in


@formula(
    unit=BYTES,
    cite="AutoAWQ modules/linear/gemm.py WQLinear_GEMM (qweight, qzeros, scales); Lin et al. 2023, arXiv 2306.00978",
)
def awq_bytes(n_in: Any, n_out: Any) -> Any:
    """4-bit codes and zero points packed in int32, fp16 scales, groups of 128 inputs."""
    groups = ceil_div(n_in, GROUP)
    return INT32 * (n_in + groups) * ceil_div(n_out * CODE_BITS, 32) + FP16 * groups * n_out


@formula(
    unit=BYTES,
    cite="compressed-tensors pack-quantized W4A16 (weight_packed, weight_scale)",
    assumes=("symmetric: no zero points",),
)
def int4_bytes(n_in: Any, n_out: Any) -> Any:
    """4-bit codes packed in int32 and one 16-bit scale for each group of 128 inputs."""
    return INT32 * ceil_div(n_in * CODE_BITS, 32) * n_out + FP16 * ceil_div(n_in, GROUP) * n_out


@formula(
    unit=BYTES,
    cite="compressed-tensors FP8 (weight, weight_scale); Micikevicius et al. 2022, arXiv 2209.05433",
)
def fp8_bytes(n_in: Any, n_out: Any) -> Any:
    """One byte a weight and one fp32 scale a matrix."""
    return n_in * n_out + FP32


@formula(unit=BYTES, cite="DeepSeek-V3, arXiv 2412.19437, section 3.3.2 (weight_scale_inv of its checkpoint)")
def fp8_block_bytes(n_in: Any, n_out: Any) -> Any:
    """One byte a weight and one fp32 scale for each tile of 128 x 128."""
    return n_in * n_out + FP32 * ceil_div(n_in, TILE) * ceil_div(n_out, TILE)


@formula(unit=BYTES, cite="OCP Microscaling Formats (MX) v1.0, section 5.3")
def mxfp4_bytes(n_in: Any, n_out: Any) -> Any:
    """4-bit codes and one 8-bit scale for each 32 inputs of a row."""
    return n_out * ceil_div(n_in, 32) * ((32 * CODE_BITS + 8) // BYTE)


@formula(
    unit=BYTES, cite="NVIDIA, Introducing NVFP4, 2025; ModelOpt checkpoints (weight, weight_scale, weight_scale_2)"
)
def nvfp4_bytes(n_in: Any, n_out: Any) -> Any:
    """4-bit codes, one E4M3 scale for each 16 inputs of a row, and one fp32 scale a matrix."""
    return n_out * ceil_div(n_in, 16) * ((16 * CODE_BITS + 8) // BYTE) + FP32
