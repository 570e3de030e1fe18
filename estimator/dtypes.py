"""Storage formats as whole blocks of bits, so that every size is an exact int.

A format stores ``block`` elements in ``block_bits`` bits: an NF4 block is 64 codes of 4 bits and one fp32 scale,
288 bits, 4.5 bits a weight. Plain types are blocks of one element.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from estimator.errors import unknown
from estimator.ops import ceil_div
from estimator.units import BITS_PER_BYTE


@dataclass(frozen=True, slots=True)
class Format:
    """A storage format: ``block_bits`` bits hold ``block`` elements; ``source`` says where the layout is read."""

    name: str
    block: int
    block_bits: int
    meaning: str
    source: str = "IEEE 754 / PyTorch dtype"
    plain: bool = True

    @property
    def bits_per_weight(self) -> Fraction:
        """Exact bits an element, scales included."""
        return Fraction(self.block_bits, self.block)

    def bytes(self, elements: Any) -> Any:
        """Bytes of ``elements`` numbers: whole blocks, rounded up to whole bytes."""
        return ceil_div(ceil_div(elements, self.block) * self.block_bits, BITS_PER_BYTE)


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
        Format("nf4", 64, 64 * 4 + 32, "NormalFloat4, blocks of 64 with one fp32 scale", "Dettmers et al. 2023, arXiv 2305.14314", plain=False),
    )
}
ALIASES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float64": "fp64", "f32": "fp32", "f16": "fp16", "e4m3": "fp8", "e5m2": "fp8", "fp8_e4m3": "fp8", "float8": "fp8"}


def find_format(name: str, flag: str = "--dtype") -> Format:
    """The format called ``name`` (or an alias of it); InputError with the nearest names otherwise."""
    key = name.lower()
    key = ALIASES.get(key, key)
    if key not in FORMATS:
        raise unknown(f"{flag}", name, FORMATS)
    return FORMATS[key]
