"""Schemes: what a library does to a model's weights, and which of them it leaves alone."""

from __future__ import annotations

from dataclasses import dataclass

from estimator.dtypes import Format
from estimator.families.base import Architecture
from estimator.formula import Formula
from estimator.formulas.storage import (
    GROUP,
    awq_bytes,
    fp8_block_bytes,
    fp8_bytes,
    gptq_bytes,
    int4_bytes,
    llm_int8_bytes,
    mxfp4_bytes,
    nf4_bytes,
    nf4_dq_bytes,
    nvfp4_bytes,
)
from estimator.inventory import CONV1D, EXPERT, LINEAR, Weight
from estimator.storage.base import Matrices, Storage, Stored, matrices, moe_of, plain


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


def scheme_storage(arch: Architecture, scheme: Scheme, base: Format) -> Storage:
    """The weights of ``arch`` in ``scheme``; what it leaves alone in ``base``."""
    moe = moe_of(arch)
    only = scheme.experts == "only" and bool(moe)
    parts, notes = [], [f"{scheme.note} ({base.name})"]
    for w in arch.weights():
        linear = w.role in (LINEAR, CONV1D) and len(w.shape) == 2 and not only
        expert = w.role == EXPERT and len(w.shape) == 3 and not w.is_bias and scheme.experts != "kept"
        parts.append(_quantised(w, scheme, matrices(w, moe)) if linear or expert else plain(w, base))
    if moe and scheme.experts == "kept":
        notes.append(
            f"stacked experts are no torch.nn.Linear, so bitsandbytes leaves them in {base.name} (transformers 5)"
        )
    return Storage(tuple(parts), tuple(notes))


def _quantised(w: Weight, scheme: Scheme, m: Matrices) -> Stored:
    size = scheme.bytes(m.n_in * m.n_out) if scheme.bytes.params == ("n",) else scheme.bytes(m.n_in, m.n_out)
    return Stored(w, scheme.name, w.times * m.count * size, scheme.bytes)
