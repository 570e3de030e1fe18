"""Storage formats as whole blocks of bits, so that every size is an exact int.

A format stores ``block`` elements in ``block_bits`` bits: an NF4 block is 64 codes of 4 bits and one fp32 scale,
288 bits, 4.5 bits a weight. Plain types are blocks of one element. Which tensors of a model a quantisation leaves
in a plain type is the business of :mod:`estimator.storage`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from estimator.errors import unknown
from estimator.ops import ceil_div
from estimator.records import NamedTuple
from estimator.units import BITS_PER_BYTE


class Format(NamedTuple):
    """A storage format: ``block_bits`` bits hold ``block`` elements; ``source`` says where the layout is read.

    plain     one number an element, no scales
    tensor_bits   bits that a tensor needs once, on top of its blocks
    """

    name: str
    block: int
    block_bits: int
    meaning: str
    source: str = "IEEE 754 / PyTorch dtype"
    plain: bool = True
    tensor_bits: int = 0

    @property
    def bits_per_weight(self) -> Fraction:
        """Exact bits an element, scales included."""
        return Fraction(self.block_bits, self.block)

    def bytes(self, elements: Any) -> Any:
        """Bytes of ``elements`` numbers: whole blocks, rounded up to whole bytes."""
        return ceil_div(ceil_div(elements, self.block) * self.block_bits + self.tensor_bits, BITS_PER_BYTE)


_QLORA = "Dettmers et al. 2023, arXiv 2305.14314, section 3"
_BNB = "bitsandbytes functional.py quantize_4bit, quantize_blockwise"
_OCP = "OCP Microscaling Formats (MX) v1.0, section 5.3"
_GGML = "llama.cpp ggml/src/ggml-common.h; gguf-py/gguf/constants.py GGML_QUANT_SIZES"
_K = 256  # llama.cpp's QK_K: elements of a super-block


def _blocks(name: str, block: int, bytes_: int, meaning: str) -> Format:
    return Format(name, block, bytes_ * BITS_PER_BYTE, meaning, _GGML, plain=False)


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("fp64", 1, 64, "double precision"),
        Format("fp32", 1, 32, "single precision"),
        Format("tf32", 1, 32, "single precision, multiplied with 10 mantissa bits: stored as fp32"),
        Format("bf16", 1, 16, "bfloat16"),
        Format("fp16", 1, 16, "half precision"),
        Format("fp8", 1, 8, "8-bit float (E4M3 or E5M2)", "Micikevicius et al. 2022, arXiv 2209.05433"),
        Format("int8", 1, 8, "8-bit integer"),
        Format("int4", 1, 4, "4-bit integer"),
        Format("fp4", 1, 4, "4-bit float (E2M1)", _OCP),
        Format("nf4", 64, 64 * 4 + 32, "NormalFloat4, blocks of 64 with one fp32 scale", f"{_QLORA}; {_BNB}", False),
        Format("mxfp4", 32, 32 * 4 + 8, "4-bit float (E2M1), blocks of 32 with one 8-bit scale", _OCP, False),
        Format("mxfp6", 32, 32 * 6 + 8, "6-bit float, blocks of 32 with one 8-bit scale", _OCP, False),
        Format("mxfp8", 32, 32 * 8 + 8, "8-bit float, blocks of 32 with one 8-bit scale", _OCP, False),
        Format(
            "nvfp4", 16, 16 * 4 + 8, "E2M1, blocks of 16 with one E4M3 scale, and one fp32 scale a tensor",
            "NVIDIA, Introducing NVFP4 (2025), https://developer.nvidia.com/blog/introducing-nvfp4", False, 32,
        ),
        _blocks("q4_0", 32, 2 + 16, "4 bits, blocks of 32: fp16 scale"),
        _blocks("q4_1", 32, 2 + 2 + 16, "4 bits, blocks of 32: fp16 scale and minimum"),
        _blocks("q5_0", 32, 2 + 4 + 16, "5 bits, blocks of 32: fp16 scale"),
        _blocks("q5_1", 32, 2 + 2 + 4 + 16, "5 bits, blocks of 32: fp16 scale and minimum"),
        _blocks("q8_0", 32, 2 + 32, "8 bits, blocks of 32: fp16 scale"),
        _blocks("q8_1", 32, 2 + 2 + 32, "8 bits, blocks of 32: fp16 scale and sum"),
        _blocks("q2_k", _K, _K // 16 + _K // 4 + 2 + 2, "2 bits, super-blocks of 256: 4-bit scales and minima of 16"),
        _blocks("q3_k", _K, _K // 8 + _K // 4 + 12 + 2, "3 bits, super-blocks of 256: 6-bit scales of 16"),
        _blocks("q4_k", _K, 2 + 2 + 12 + _K // 2, "4 bits, super-blocks of 256: 6-bit scales and minima of 32"),
        _blocks("q5_k", _K, 2 + 2 + 12 + _K // 8 + _K // 2, "5 bits, super-blocks of 256: as q4_k"),
        _blocks("q6_k", _K, _K // 2 + _K // 4 + _K // 16 + 2, "6 bits, super-blocks of 256: 8-bit scales of 16"),
        _blocks("q8_k", _K, 4 + _K + _K // 8, "8 bits, super-blocks of 256: fp32 scale and sums"),
        _blocks("iq1_s", _K, 2 + _K // 8 + _K // 16, "1.56 bits from a codebook, super-blocks of 256"),
        _blocks("iq1_m", _K, _K // 8 + _K // 16 + _K // 32, "1.75 bits from a codebook, super-blocks of 256"),
        _blocks("iq2_xxs", _K, 2 + _K // 4, "2.06 bits from a codebook, super-blocks of 256"),
        _blocks("iq2_xs", _K, 2 + _K // 4 + _K // 32, "2.31 bits from a codebook, super-blocks of 256"),
        _blocks("iq2_s", _K, 2 + _K // 4 + _K // 16, "2.56 bits from a codebook, super-blocks of 256"),
        _blocks("iq3_xxs", _K, 2 + _K // 4 + _K // 8, "3.06 bits from a codebook, super-blocks of 256"),
        _blocks("iq3_s", _K, 2 + _K // 4 + _K // 8 + _K // 32 + 4, "3.44 bits from a codebook, super-blocks of 256"),
        _blocks("iq4_nl", 32, 2 + 16, "4 bits, non-linear levels, blocks of 32: fp16 scale"),
        _blocks("iq4_xs", _K, 2 + 2 + _K // 64 + _K // 2, "4 bits, non-linear levels, super-blocks of 256"),
        _blocks("tq1_0", _K, 2 + 4 * 13, "ternary, 1.69 bits, blocks of 256"),
        _blocks("tq2_0", _K, 2 + 64, "ternary, 2.06 bits, blocks of 256"),
        _blocks("q1_0", 128, 2 + 16, "1 bit, blocks of 128: fp16 scale"),
        _blocks("ggml_nvfp4", 64, 4 + 32, "NVFP4 as llama.cpp stores it: four blocks of 16 with E4M3 scales"),
        Format("int16", 1, 16, "16-bit integer"),
        Format("int32", 1, 32, "32-bit integer"),
        Format("int64", 1, 64, "64-bit integer"),
    )
}  # fmt: skip
ALIASES = {
    "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float64": "fp64", "f64": "fp64",
    "f32": "fp32", "f16": "fp16", "e4m3": "fp8", "e5m2": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "float8": "fp8",
    "f8": "fp8", "float4": "fp4", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
}  # fmt: skip

# ggml's type numbers (enum ggml_type in ggml.h) -> format names; 4, 5, 31-33 and 36-38 were removed
GGML_TYPES = {
    0: "fp32", 1: "fp16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 9: "q8_1", 10: "q2_k", 11: "q3_k",
    12: "q4_k", 13: "q5_k", 14: "q6_k", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s",
    20: "iq4_nl", 21: "iq3_s", 22: "iq2_s", 23: "iq4_xs", 24: "int8", 25: "int16", 26: "int32", 27: "int64",
    28: "fp64", 29: "iq1_m", 30: "bf16", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4", 40: "ggml_nvfp4",
    41: "q1_0",
}  # fmt: skip


def gguf_format(kind: int) -> Format:
    """The format of a ggml type number."""
    return FORMATS[GGML_TYPES[kind]]


def find_format(name: str, flag: str = "--dtype") -> Format:
    """The format called ``name`` (or an alias of it); InputError with the nearest names otherwise."""
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in FORMATS:
        raise unknown(f"{flag}", name, FORMATS)
    return FORMATS[key]
