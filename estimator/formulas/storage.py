"""Bytes of a model's weights in a storage scheme: exact per tensor, and which tensors a scheme leaves alone.

A *format* (:mod:`estimator.dtypes`) says how numbers are packed; a *scheme* is what a library does to a model with
it. bitsandbytes replaces ``torch.nn.Linear`` (and GPT-2's Conv1D) except the output layer; embeddings, norms, biases
and routers stay in the base type, and so do experts that are one stacked tensor. GPTQ, AWQ, FP8 and NVFP4 checkpoints
hold every expert as a matrix of its own and quantise it too. llama.cpp's mixes: :mod:`estimator.formulas.gguf_mix`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from estimator.dtypes import Format, find_format
from estimator.errors import unknown
from estimator.families.base import Architecture, MoE
from estimator.formula import Formula, formula
from estimator.inventory import CONV1D, EXPERT, LINEAR, Weight
from estimator.names import read
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


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a library does to a model's weights.

    bytes     formula of one matrix: of its elements, or of its inputs and outputs
    experts   "kept" (stacked experts stay), "each" (every expert is quantised), "only" (nothing else is, if any)
    """

    name: str
    bytes: Formula
    experts: str
    note: str


_BNB = "output layer, embeddings, norms, biases and routers stay in the base type"
SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("nf4", nf4_bytes, "kept", f"nf4 as bitsandbytes stores it: blocks of 64; {_BNB}"),
        Scheme("nf4-dq", nf4_dq_bytes, "kept", f"nf4 with double quantisation as bitsandbytes stores it; {_BNB}"),
        Scheme("fp4", nf4_bytes, "kept", f"fp4 as bitsandbytes stores it: blocks of 64; {_BNB}"),
        Scheme("int8", llm_int8_bytes, "kept", f"LLM.int8() of bitsandbytes: a scale a row; {_BNB}"),
        Scheme("int4", int4_bytes, "each", f"int4 in groups of {GROUP} inputs, symmetric; {_BNB}"),
        Scheme("gptq", gptq_bytes, "each", f"GPTQ, 4 bits in groups of {GROUP} inputs; {_BNB}"),
        Scheme("awq", awq_bytes, "each", f"AWQ, 4 bits in groups of {GROUP} inputs; {_BNB}"),
        Scheme("fp8", fp8_bytes, "each", f"fp8 with one scale a matrix; {_BNB}"),
        Scheme("fp8-block", fp8_block_bytes, "each", f"fp8 with a scale for each 128 x 128 tile; {_BNB}"),
        Scheme(
            "mxfp4",
            mxfp4_bytes,
            "only",
            f"mxfp4 on the routed experts, or on all linear layers where there are none; {_BNB}",
        ),
        Scheme("nvfp4", nvfp4_bytes, "each", f"nvfp4: blocks of 16 and one scale a matrix; {_BNB}"),
    )
}

@dataclass(frozen=True, slots=True)
class Stored:
    """One weight in storage: ``bytes`` over all its layers (those of ``layers`` where a mix treats them apart)."""

    weight: Weight
    format: str
    bytes: Any
    formula: Formula | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A model's weights in a scheme; ``notes`` says what was assumed."""

    parts: tuple[Stored, ...]
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> Any:
        """Bytes of all weights."""
        return sum(p.bytes for p in self.parts)

    def by_format(self) -> dict[str, Any]:
        """Format -> bytes, in order of first use."""
        out: dict[str, Any] = {}
        for p in self.parts:
            out[p.format] = out.get(p.format, 0) + p.bytes
        return out


@dataclass(frozen=True, slots=True)
class Matrices:
    """A weight as what a quantiser sees: ``count`` matrices a layer, each of n_in inputs and n_out outputs."""

    count: Any
    n_in: Any
    n_out: Any


def schemes() -> tuple[str, ...]:
    """Every name that ``--quantization`` takes beside "none"."""
    from estimator.formulas.gguf_mix import MIXES

    return (*SCHEMES, *MIXES)


def stored_weights(arch: Architecture, quantization: str = "none", base: str = "bf16") -> Storage:
    """The weights of ``arch`` in a scheme, what it does not touch in the format ``base``.

    quantization: "none", a name of SCHEMES or a llama.cpp mix such as ``q4_k_m``. InputError for other names.
    """
    fmt = find_format(base)
    key = read("quantization", quantization)
    if key == "none":
        return Storage(tuple(_plain(w, fmt) for w in arch.weights()))
    from estimator.formulas.gguf_mix import MIXES, mix_storage

    if key in MIXES:
        return mix_storage(arch, key)
    if key not in SCHEMES:
        raise unknown("--quantization", quantization, ("none", *schemes()))
    return _scheme_storage(arch, SCHEMES[key], fmt)


def _scheme_storage(arch: Architecture, scheme: Scheme, base: Format) -> Storage:
    moe = moe_of(arch)
    only = scheme.experts == "only" and bool(moe)
    parts, notes = [], [f"{scheme.note} ({base.name})"]
    for w in arch.weights():
        linear = w.role in (LINEAR, CONV1D) and len(w.shape) == 2 and not only
        expert = w.role == EXPERT and len(w.shape) == 3 and not w.is_bias and scheme.experts != "kept"
        parts.append(_quantised(w, scheme, matrices(w, moe)) if linear or expert else _plain(w, base))
    if moe and scheme.experts == "kept":
        notes.append(
            f"stacked experts are no torch.nn.Linear, so bitsandbytes leaves them in {base.name} (transformers 5)"
        )
    return Storage(tuple(parts), tuple(notes))


def _quantised(w: Weight, scheme: Scheme, m: Matrices) -> Stored:
    size = scheme.bytes(m.n_in * m.n_out) if scheme.bytes.params == ("n",) else scheme.bytes(m.n_in, m.n_out)
    return Stored(w, scheme.name, w.times * m.count * size, scheme.bytes)


def _plain(w: Weight, fmt: Format) -> Stored:
    return Stored(w, fmt.name, w.times * fmt.bytes(w.elements))


def moe_of(arch: Architecture) -> MoE | None:
    """The mixture of experts of the first layer that has one."""
    return next((layer.mlp for layer in arch.layers if isinstance(layer.mlp, MoE)), None)


def matrices(w: Weight, moe: MoE | None) -> Matrices:
    """The matrices of a weight: a fused gate_up of a stack of experts is two for each expert."""
    if len(w.shape) == 3 and moe is not None:
        count, first, second = w.shape
        down = "down" in w.name or ".w2" in w.name
        n_in = moe.width if down else moe.d
        n_out = second if first == n_in and second != n_in else first
        fused = not down and n_out == 2 * moe.width
        return Matrices(count * 2, n_in, moe.width) if fused else Matrices(count, n_in, n_out)
    first, second = w.shape
    return Matrices(1, first, second) if w.role == CONV1D else Matrices(1, second, first)


def layers_of(w: Weight) -> Iterator[int]:
    """The indices of the layers that hold a weight."""
    yield from w.layers if w.layers is not None else range(int(w.times))
