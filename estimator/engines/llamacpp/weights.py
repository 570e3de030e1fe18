"""The weights of a GGUF file by where llama.cpp puts them: token table, each layer's experts and rest, output."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from estimator.engines.llamacpp.context import BUILD, FUSED, LATENT
from estimator.families.base import Architecture, Linear, Norm
from estimator.families.common_gguf import blocks, gguf_of
from estimator.headers import Header
from estimator.inventory import EMBEDDING, EXPERT, POSITION, TOKEN_TYPE
from estimator.records import NamedTuple, dataclass
from estimator.same import Same
from estimator.storage.base import Storage, Stored
from estimator.storage.gguf_mix import Typed, typed
from estimator.trace import value_of
from estimator.units import BYTES, human

# mixes that people use, largest first
COMPARED = (
    "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "iq4_xs", "q4_0", "q3_k_l", "q3_k_m", "iq3_m",
    "q3_k_s", "iq3_xs", "iq3_xxs", "q2_k", "iq2_m", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s",
)  # fmt: skip

_BLOCK = re.compile(r"^(?:enc\.|dec\.)?blk\.(\d+)\.")
# tensors outside the layers: what the host looks up, and what lies with the first layer; the rest with the output
_TABLES = ("token_embd.weight", "position_embd.", "token_types.", "per_layer_token_embd.")
_LEADS = ("token_embd_norm.", "per_layer_model_proj.", "per_layer_proj_norm.")
LOOKED_UP = (EMBEDDING, POSITION, TOKEN_TYPE)


class LayerBytes(NamedTuple):
    """Bytes of one layer: the routed experts, and everything else."""

    experts: int = 0
    rest: int = 0

    @property
    def total(self) -> int:
        return self.experts + self.rest


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a file.

    total     of all tensors, as the file holds them
    table     the tables that are looked up on the host; token: of it the tokens' own
    output    the output matrix and the last norm; tied: the output is the token table, which a device holds once more
    elements  numbers instead of bytes, layer by layer
    products  bytes of each matrix that is multiplied: (module, layer; -1 outside of them), where known by name; gate
              and up of an expert stack are two
    spread    the least and the most that a file of the name has, as shares of these bytes
    """

    total: Any
    table: int
    token: int
    layers: tuple[LayerBytes, ...]
    output: int
    tied: bool
    elements: tuple[LayerBytes, ...]
    products: dict[tuple[str, int], int]
    storage: Storage
    notes: tuple[str, ...] = ()
    spread: tuple[float, float] = (1.0, 1.0)

    @property
    def head(self) -> int:
        """Bytes of the output layer on a device that runs it."""
        return self.output + (self.token if self.tied else 0)


def of_mix(arch: Architecture, mix: str, imatrix: bool, build: int = BUILD) -> Weights:
    """The weights of ``arch`` in a mix, or in a plain type (f16, bf16, f32: vectors stay in fp32), made by a build.

    The last few are remembered: an answer reads its question for several builds and changes.
    """
    return _of_mix(Same(arch), mix, imatrix, build < FUSED, build < LATENT)


@lru_cache(maxsize=8)
def _of_mix(same: Same[Architecture], mix: str, imatrix: bool, fused_apart: bool, mla_whole: bool) -> Weights:
    arch = same.it
    parts: list[Typed] = list(typed(arch, mix, imatrix, fused_apart, mla_whole))
    ends, leads = {"table": 0, "output": 0}, _leads(arch)
    token = 0
    layers = [[0, 0] for _ in range(blocks(arch))]
    numbers = [[0, 0] for _ in layers]
    products: dict[tuple[str, int], int] = {}
    for t in parts:
        w = t.piece.weight
        if "{i}" not in w.name:
            if w.name in leads:
                layers[0][1] += t.bytes
            else:
                ends["table" if w.role in LOOKED_UP else "output"] += t.bytes
            token += t.bytes if w.module == arch.embeddings[0].name else 0
            products[w.module, -1] = t.bytes
            continue
        m, column = t.piece.matrices, 0 if w.role == EXPERT else 1
        layers[t.layer][column] += t.bytes
        numbers[t.layer][column] += int(value_of(m.count * m.n_in * m.n_out))
        name = w.name if w.role == EXPERT else w.module
        in_parts = int(value_of(t.piece.matrices.count)) // int(value_of(w.shape[0])) if w.role == EXPERT else 1
        products[name, t.layer] = products.get((name, t.layer), 0) + t.bytes // max(1, in_parts)
    stored = _stored(parts)
    tied = heads(arch) and arch.head is None
    by_layer, elements = (tuple(LayerBytes(*x) for x in found) for found in (layers, numbers))
    return Weights(stored.bytes, ends["table"], token, by_layer, ends["output"], tied, elements, products, stored)


def _leads(arch: Architecture) -> set[str]:
    """Weights outside the layers that lie with the first one: what norms the embeddings, what makes the layers' own
    inputs (src/llama-arch.cpp, LLM_TENSOR_LAYER_REPEATING of no block).
    """
    parts = [x for x in (*arch.embeddings, *arch.beside) if isinstance(x, Norm | Linear)]
    return {w.name for part in parts for w in part.weights()}


def heads(arch: Architecture) -> bool:
    """Whether llama.cpp loads an output matrix: for an encoder only where it keeps a cache as well (T5)."""
    known = gguf_of(arch)
    return arch.kind != "encoder" or (known is not None and known.sided)


def _stored(parts: Iterable[Typed]) -> Storage:
    """GgmlTensor by tensor again what a layer-by-layer list says, equal types of a weight together."""
    found: dict[tuple[str, str], list[Any]] = {}
    for t in parts:
        at = found.setdefault((t.piece.weight.name, t.type), [t.piece.weight, 0])
        at[1] += t.bytes
    return Storage(tuple(Stored(w, kind, size) for (_, kind), (w, size) in found.items()))


def of_header(header: Header, arch: Architecture) -> Weights:
    """The weights as the file itself lists them."""
    by_layer = [[0, 0] for _ in range(blocks(arch))]
    numbers = [[0, 0] for _ in by_layer]
    table = output = beyond = token = 0
    leads = _LEADS if any(isinstance(x, Norm) for x in arch.embeddings) else _LEADS[1:]
    for t in header.tensors:
        match = _BLOCK.match(t.name)
        if match and int(match[1]) >= len(by_layer):
            beyond += t.bytes
        elif match:
            column = 0 if "_exps" in t.name else 1
            by_layer[int(match[1])][column] += t.bytes
            numbers[int(match[1])][column] += t.elements
        elif t.name.startswith(_TABLES):
            table += t.bytes
            token += t.bytes if t.name == "token_embd.weight" else 0
        elif t.name.startswith(leads):
            by_layer[0][1] += t.bytes
        else:
            output += t.bytes
    tied = heads(arch) and not any(t.name == "output.weight" for t in header.tensors)
    by_block, elements = (tuple(LayerBytes(*x) for x in found) for found in (by_layer, numbers))
    said: tuple[str, ...] = ("weights as the file's header lists them",)
    if beyond:  # llama_model_params::load_mtp
        said += (f"{human(beyond, BYTES)} of layers that predict further tokens stay in the file",)
    return Weights(header.bytes - beyond, table, token, by_block, output, tied, elements, {}, Storage(()), said)


__all__ = ["LayerBytes", "Weights", "of_header", "of_mix"]
