"""Bytes of one matrix in each storage format, as the libraries lay it out (:mod:`estimator.storage`: whole models).

A matrix has n_in inputs and n_out outputs; w are the bits of a code, g the inputs that share a scale.
"""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.ops import ceil_div
from estimator.units import BYTES

BLOCK = 64  # bitsandbytes' default block of 4-bit codes
SCALE_BLOCK = 256  # block of the second quantisation
FP32, FP16, INT32, INT16 = 4, 2, 4, 2  # bytes
WORD = 32  # bits of an int32, which holds several codes
GROUP = 128  # inputs that share a scale in the GPTQ and AWQ checkpoints in use
TILE = 128  # DeepSeek-V3's weight blocks are 128 x 128
CODE_BITS, BYTE = 4, 8
TERNARY = 4  # weights of BitNet in a byte
SHAPE = 16  # bytes: two int64 that compressed-tensors stores beside packed codes


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
def gptq_bytes(n_in: Any, n_out: Any, w: Any = CODE_BITS, g: Any = GROUP, index: Any = 1) -> Any:
    """Codes and zero points of w bits packed in int32, fp16 scales for g inputs, an int32 group index an input.

    index: 0 where the file holds no group index (AutoRound's own export).
    """
    groups = ceil_div(n_in, g)
    packed = INT32 * ceil_div(n_in * w, WORD) * n_out + INT32 * groups * ceil_div(n_out * w, WORD)
    return packed + FP16 * groups * n_out + index * INT32 * n_in


@formula(
    unit=BYTES,
    cite="AutoAWQ modules/linear/gemm.py WQLinear_GEMM (qweight, qzeros, scales); Lin et al. 2023, arXiv 2306.00978",
)
def awq_bytes(n_in: Any, n_out: Any, w: Any = CODE_BITS, g: Any = GROUP) -> Any:
    """Codes and zero points of w bits packed in int32, fp16 scales for g inputs."""
    groups = ceil_div(n_in, g)
    return INT32 * (n_in + groups) * ceil_div(n_out * w, WORD) + FP16 * groups * n_out


@formula(
    unit=BYTES,
    cite="compressed-tensors 0.20 pack_quantized (weight_packed, weight_scale, weight_shape, weight_zero_point)",
)
def packed_int_bytes(n_in: Any, n_out: Any, w: Any = CODE_BITS, g: Any = GROUP, zeros: Any = 0) -> Any:
    """Codes of w bits packed in int32 along a row, a 16-bit scale for g inputs, the shape; zeros: 1 if asymmetric.

    Zero points are packed along the outputs.
    """
    groups = ceil_div(n_in, g)
    codes = INT32 * ceil_div(n_in * w, WORD) * n_out + INT32 * zeros * groups * ceil_div(n_out * w, WORD)
    return codes + FP16 * groups * n_out + SHAPE


@formula(
    unit=BYTES,
    cite="DeepSeek-V3, arXiv 2412.19437, section 3.3.2 (weight_scale_inv); transformers 5.24 finegrained_fp8.py",
)
def tiled_bytes(n_in: Any, n_out: Any, tile_in: Any = TILE, tile_out: Any = TILE, scale: Any = FP32) -> Any:
    """One byte a weight and ``scale`` bytes for each tile of tile_in inputs and tile_out outputs.

    A scale a matrix: a tile of the whole; a scale a row: tile_out = 1. fp8 and int8 alike.
    """
    return n_in * n_out + scale * ceil_div(n_in, tile_in) * ceil_div(n_out, tile_out)


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


@formula(unit=BYTES, cite="MLX mlx.core.quantize, mode affine (weight, scales, biases)")
def mlx_bytes(n_in: Any, n_out: Any, w: Any = CODE_BITS, g: Any = BLOCK) -> Any:
    """Codes of w bits packed in uint32 along a row, a 16-bit scale and a 16-bit bias for g inputs."""
    return INT32 * ceil_div(n_in * w, WORD) * n_out + 2 * FP16 * ceil_div(n_in, g) * n_out


@formula(unit=BYTES, cite="hqq 0.2.8 core/bitpack.py, core/quantize.py (W_q, scale, zero)")
def hqq_bytes(rows: Any, columns: Any, groups: Any, pack: Any = 2, word: Any = 1) -> Any:
    """Codes of a matrix of groups, ``pack`` of them along a column in ``word`` bytes; 16-bit scale and zero a group."""
    return word * ceil_div(rows, pack) * columns + 2 * FP16 * groups


@formula(unit=BYTES, cite="torchao 0.18 Int4Tensor (qdata, scale, zero_point)")
def torchao_int4_bytes(n_in: Any, n_out: Any, g: Any = GROUP) -> Any:
    """4-bit codes, a 16-bit scale and a 16-bit zero point for g inputs."""
    return n_out * ceil_div(n_in * CODE_BITS, BYTE) + 2 * FP16 * ceil_div(n_in, g) * n_out


@formula(unit=BYTES, cite="transformers 5.24 integrations/eetq.py EetqLinear (weight, weight_scales)")
def eetq_bytes(n_in: Any, n_out: Any) -> Any:
    """One byte a weight and an fp16 scale for each output."""
    return n_in * n_out + FP16 * n_out


@formula(unit=BYTES, cite="transformers 5.24 integrations/bitnet.py BitLinear (weight, weight_scale); arXiv 2402.17764")
def bitnet_bytes(n_in: Any, n_out: Any) -> Any:
    """Four ternary weights a byte, packed along the outputs, and one 16-bit scale a matrix."""
    return n_out // TERNARY * n_in + FP16


@formula(unit=BYTES, cite="transformers 5.24 integrations/higgs.py HiggsLinear (weight, scales, tables, tables2)")
def higgs_bytes(n_in: Any, n_out: Any, w: Any = CODE_BITS, g: Any = SCALE_BLOCK) -> Any:
    """Codes of w bits packed in int16, a 16-bit scale for g inputs, and the grid's two tables of 2^w and 2 * 2^2w."""
    codes = FP16 * (n_out * w // (FP16 * BYTE)) * n_in
    return codes + FP16 * n_out * (n_in // g) + FP16 * (2**w + 2 * 2 ** (2 * w))


@formula(unit=BYTES, cite="aqlm 1.1.7 inference.py QuantizedLinear (codebooks, codes, scales); arXiv 2401.06118")
def aqlm_bytes(n_in: Any, n_out: Any, w: Any = 16, K: Any = 1, g: Any = 8, out: Any = 1, code: Any = INT16) -> Any:
    """K codes a group of g inputs and ``out`` outputs, ``code`` bytes each, K books of 2^w groups in 16 bits, and a
    16-bit scale for ``out`` outputs.
    """
    groups = (n_in // g) * (n_out // out)
    return code * K * groups + FP16 * K * 2**w * g * out + FP16 * (n_out // out)
