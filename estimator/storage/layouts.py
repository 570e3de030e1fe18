"""Layouts: how one matrix lies in a scheme's file, and what its products run in.

A layout is a formula of :mod:`estimator.formulas.storage` with its parameters bound. What multiplies is not what is
stored: 4-bit codes are unpacked to 16 bits by most kernels, fp8 and NVFP4 are multiplied as they are where the
accelerator can (:mod:`estimator.storage.products`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.formula import Formula
from estimator.formulas import storage as f
from estimator.ops import ceil_div
from estimator.records import dataclass

WEIGHT_ONLY = "weight-only"
FP8, INT8, NVFP4, MXFP4 = "fp8", "int8", "nvfp4", "mxfp4"
HQQ_PACKING = {8: (1, 1), 4: (2, 1), 3: (10, 4), 2: (4, 1), 1: (8, 1)}  # bits -> codes a word, bytes a word


@dataclass(frozen=True, slots=True)
class Layout:
    """One matrix in storage.

    name      as :meth:`Storage.by_format` shows it
    size      bytes of a matrix of n_in inputs and n_out outputs
    products  what its kernels multiply in: "weight-only", "fp8", "int8", "nvfp4" or "mxfp4"
    tile      (inputs, outputs) that share a scale; 0: the whole side, or not stated
    """

    name: str
    size: Callable[[Any, Any], Any]
    formula: Formula
    products: str = WEIGHT_ONLY
    tile: tuple[int, int] = (0, 0)


def nf4(double: bool = False, name: str = "nf4") -> Layout:
    """bitsandbytes' 4 bits (nf4 and fp4 alike)."""
    made = f.nf4_dq_bytes if double else f.nf4_bytes
    return Layout(f"{name}-dq" if double else name, lambda i, o: made(i * o), made)


def llm_int8() -> Layout:
    """bitsandbytes' LLM.int8()."""
    return Layout("int8", lambda i, o: f.llm_int8_bytes(i, o), f.llm_int8_bytes)


def _grouped(n_in: Any, group: int) -> Any:
    """The inputs that share a scale: all of them where ``group`` is -1 or 0."""
    return group if group > 0 else n_in


def gptq(bits: int = f.CODE_BITS, group: int = f.GROUP, name: str = "gptq", index: int = 1) -> Layout:
    """GPTQ: qweight, qzeros, scales, and g_idx unless ``index`` is 0."""
    return Layout(name, lambda i, o: f.gptq_bytes(i, o, bits, _grouped(i, group), index), f.gptq_bytes,
                  tile=(max(group, 0), 1))  # fmt: skip


def awq(bits: int = f.CODE_BITS, group: int = f.GROUP, name: str = "awq") -> Layout:
    """AWQ's GEMM layout: qweight, qzeros, scales."""
    return Layout(name, lambda i, o: f.awq_bytes(i, o, bits, _grouped(i, group)), f.awq_bytes,
                  tile=(max(group, 0), 1))  # fmt: skip


def packed_int(
    bits: int, group: int, zeros: bool = False, order: bool = False, extra: int = 0, name: str = "int4"
) -> Layout:
    """compressed-tensors' packed integers; order: an int32 group index an input; extra: bytes a matrix beside."""
    index = f.INT32 if order else 0

    def size(i: Any, o: Any) -> Any:
        return f.packed_int_bytes(i, o, bits, _grouped(i, group), int(zeros)) + index * i + extra

    return Layout(name, size, f.packed_int_bytes, tile=(max(group, 0), 1))


def tiled(
    tile_in: int = 0, tile_out: int = 0, scale: int = f.FP32, extra: int = 0, name: str = "fp8", products: str = FP8
) -> Layout:
    """One byte a weight, a scale a tile (0: the whole side); extra: bytes a matrix beside, an input's scale."""

    def size(i: Any, o: Any) -> Any:
        return f.tiled_bytes(i, o, _grouped(i, tile_in), _grouped(o, tile_out), scale) + extra

    return Layout(name, size, f.tiled_bytes, products, (max(tile_in, 0), max(tile_out, 0)))


def mxfp4(extra: int = 0) -> Layout:
    """Blocks of 32 with an 8-bit scale."""
    return Layout("mxfp4", lambda i, o: f.mxfp4_bytes(i, o) + extra, f.mxfp4_bytes, MXFP4)


def mxfp8(products: str = FP8) -> Layout:
    """Blocks of 32 with an 8-bit scale."""
    return tiled(32, 1, 1, name="mxfp8", products=products)


def nvfp4(extra: int = 0, products: str = NVFP4) -> Layout:
    """Blocks of 16 with an E4M3 scale, an fp32 scale a matrix; extra: the input's scale."""
    return Layout("nvfp4", lambda i, o: f.nvfp4_bytes(i, o) + extra, f.nvfp4_bytes, products)


def mlx(bits: int = f.CODE_BITS, group: int = f.BLOCK, name: str = "mlx") -> Layout:
    """MLX's affine quantisation."""
    return Layout(name, lambda i, o: f.mlx_bytes(i, o, bits, _grouped(i, group)), f.mlx_bytes)


def hqq(bits: int = f.CODE_BITS, group: int = f.BLOCK, axis: int = 1, name: str = "hqq") -> Layout:
    """HQQ: the matrix is reshaped to groups, rows of ``group`` along axis 1, columns along axis 0."""
    pack, word = HQQ_PACKING[bits]

    def size(i: Any, o: Any) -> Any:
        if group <= 0:
            return f.hqq_bytes(o, i, o if axis == 1 else i, pack, word)
        groups = ceil_div(i * o, group)
        rows, columns = (groups, group) if axis == 1 else (group, groups)
        return f.hqq_bytes(rows, columns, groups, pack, word)

    return Layout(name, size, f.hqq_bytes)


def torchao_int4(group: int = f.GROUP) -> Layout:
    """torchao's plain int4."""
    return Layout("int4", lambda i, o: f.torchao_int4_bytes(i, o, _grouped(i, group)), f.torchao_int4_bytes)


def eetq() -> Layout:
    """EETQ's int8."""
    return Layout("eetq", lambda i, o: f.eetq_bytes(i, o), f.eetq_bytes)


def bitnet() -> Layout:
    """BitNet's packed ternary weights."""
    return Layout("ternary", lambda i, o: f.bitnet_bytes(i, o), f.bitnet_bytes)


def higgs(bits: int, group: int) -> Layout:
    """HIGGS."""
    return Layout(f"higgs-{bits}bit-g{group}", lambda i, o: f.higgs_bytes(i, o, bits, group), f.higgs_bytes)


def aqlm(bits: int, books: int, group: int, out: int) -> Layout:
    """AQLM: ``books`` codes of ``bits`` bits a group of ``group`` inputs and ``out`` outputs."""
    code = next(n for n in (1, 2, 4, 8) if bits <= n * f.BYTE)  # aqlm utils.py get_int_dtype

    def size(i: Any, o: Any) -> Any:
        return f.aqlm_bytes(i, o, bits, books, group, out, code)

    return Layout(f"aqlm-{books}x{bits}", size, f.aqlm_bytes)
