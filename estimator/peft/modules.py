"""A model's modules as the peft library sees them: every name it can match, with its type and sizes.

An :class:`Module` is a pattern (``model.layers.{i}.self_attn.q_proj``) that stands for one module in each of its
layers. Names with the layer put in are made on demand, so a stack of 126 layers costs what one layer costs unless
a rule looks at the layer's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

from estimator.config import MAX_LAYERS
from estimator.errors import InputError
from estimator.families.base import Architecture, Copies, Linear, Lookup, MoE, Norm
from estimator.inventory import CONV, EXPERT, ROUTER, Weight
from estimator.inventory import LINEAR as LINEAR_ROLE
from estimator.inventory import NORM as NORM_ROLE
from estimator.records import NamedTuple

LINEAR, CONV1D, EMBEDDING, NORM, CONVOLUTION, HOLDER, CONTAINER = (
    "torch.nn.Linear",
    "transformers Conv1D",
    "torch.nn.Embedding",
    "a normalisation",
    "torch.nn.Conv1d",
    "a module with bare parameters",
    "a container of modules",
)


# what stands beside the layers, as a vision tower does, is known by its weights' roles alone
_TOWER = {LINEAR_ROLE: LINEAR, NORM_ROLE: NORM}


class Module(NamedTuple):
    """One module pattern.

    name       its path with the layer's number as ``{i}``
    kind       one of the constants above
    d_in, d_out   features in and out (an embedding: rows and width); 0 for what has none
    bias       whether it has a bias
    times      how many layers hold it; ``layers`` their numbers, or None for 0 .. times - 1 (or a single module)
    weights    its own parameters: (name without the module, shape)
    head       the output embedding; tied: those of its parameters that belong to another module
    subclass   a matrix of a class of its own (Falcon's); scaled: a table that multiplies by its buffer (Gemma's)
    """

    name: str
    kind: str
    d_in: Any = 0
    d_out: Any = 0
    bias: bool = False
    times: Any = 1
    layers: tuple[int, ...] | None = None
    weights: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    head: bool = False
    tied: tuple[str, ...] = ()
    subclass: bool = False
    scaled: bool = False

    @property
    def layered(self) -> bool:
        return "{i}" in self.name

    @property
    def indices(self) -> tuple[int, ...]:
        """The numbers of its layers; (0,) for a module that stands once."""
        if not self.layered:
            return (0,)
        if self.layers is not None:
            return self.layers
        if self.times > MAX_LAYERS:
            raise InputError(f"num_hidden_layers={int(self.times)} is out of range (at most {MAX_LAYERS:,})")
        return tuple(range(int(self.times)))

    def at(self, index: int) -> str:
        """Its name in one layer."""
        return self.name.replace("{i}", str(index))

    @property
    def example(self) -> str:
        """Its name in its first layer."""
        return self.at(self.layers[0] if self.layers else 0)

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def parameters(self) -> Any:
        """Parameters of one such module."""
        return sum((prod(shape) for _, shape in self.weights), start=0)

    def narrowed(self, keep: Iterable[int]) -> Module | None:
        """The same module in some of its layers; None where none is left; unchanged where all are."""
        kept = tuple(keep)
        if not kept:
            return None
        if len(kept) == len(self.indices):
            return self
        return self._replace(times=len(kept), layers=kept)


def modules(arch: Architecture) -> list[Module]:
    """Every module of a model that holds parameters, in state-dict order, then its tied output head."""
    found: dict[str, list[tuple[Weight, str, Any]]] = {}
    for weight, kind, part in _walk(arch):
        found.setdefault(f"{weight.module}|{weight.layers}", []).append((weight, kind, part))
    out = [_module(rows) for rows in found.values()]
    out += _aliases(arch, out)
    if arch.tied and arch.has_head:
        out.append(_tied_head(arch, out))
    elif arch.head is not None:
        name = arch.head.name
        out = [m._replace(head=True) if m.name == name else m for m in out]
    return out


def _walk(arch: Architecture) -> Iterator[tuple[Weight, str, Any]]:
    """(weight, kind of its module, the block it comes from) of every weight."""
    first = (*arch.embeddings, *arch.encoder_embeddings)
    groups: list[tuple[Any, Any, tuple[int, ...] | None, Any]] = [(p, 1, None, None) for p in first]
    for layer in arch.layers:
        times, where = (1, None) if layer.shared else (layer.times, layer.indices)
        groups += [(p, times, where, layer.mlp) for p in layer.parts()]
    for part in (*arch.beside, *(p for p in arch.final if isinstance(p, Copies))):
        groups.append((part.linears[0], len(part.linears), None, None) if isinstance(part, Copies)
                      else (part, 1, None, None))  # fmt: skip
    final = [p for p in arch.final if not isinstance(p, Copies)]
    last = (*arch.encoder_final, *final, *arch.pooler, *((arch.head,) if arch.head else ()), *arch.head_extras)
    groups += [(p, 1, None, None) for p in last]
    for part, times, where, mlp in groups:
        kind = _kind(part, mlp)
        for w in part.weights(times):
            yield w._replace(layers=where), kind or _loose(w), part
    for w in arch.loose_weights():
        whole = w.name.endswith((".weight", ".bias"))
        yield w, (_TOWER.get(w.role) if whole else None) or _loose(w), None


def _kind(part: Any, mlp: Any) -> str:
    if isinstance(part, Linear):
        bare = part.role == ROUTER and isinstance(mlp, MoE) and not mlp.router_linear and part in mlp.router
        return HOLDER if bare else CONV1D if part.conv1d else LINEAR
    if isinstance(part, Lookup):
        return EMBEDDING
    return NORM if isinstance(part, Norm) else ""


def _loose(w: Weight) -> str:
    """The kind of a module known by one weight alone."""
    if w.role == CONV and w.name.endswith((".weight", ".bias")):
        return CONVOLUTION
    if w.name.endswith("relative_attention_bias.weight"):
        return EMBEDDING
    return HOLDER


def _module(rows: list[tuple[Weight, str, Any]]) -> Module:
    first, kind, part = rows[0]
    kinds = {k for _, k, _ in rows}
    if len(kinds) > 1:  # a bare parameter beside a matrix of the same name: the matrix names the module
        first, kind, part = next(row for row in rows if row[1] != HOLDER)
    d_in, d_out = 0, 0
    if isinstance(part, Linear):
        d_in, d_out = part.d_in, part.d_out
    elif kind == EMBEDDING:
        d_in, d_out = first.shape[:2]
    elif kind == LINEAR:
        d_out, d_in = first.shape[:2]
    if kind == CONVOLUTION:  # depthwise: as many channels in as out
        d_in = d_out = first.shape[0]
    weights = tuple((w.name.rpartition(".")[2], w.shape) for w, _, _ in rows)
    bias = any(n == "bias" for n, _ in weights)
    own, scaled = isinstance(part, Linear) and part.subclass, isinstance(part, Lookup) and part.scaled
    return Module(
        first.module, kind, d_in, d_out, bias, first.times, first.layers, weights, subclass=own, scaled=scaled
    )  # fmt: skip


def _aliases(arch: Architecture, known: list[Module]) -> list[Module]:
    """The token tables of an encoder-decoder's two sides, which share the model's one (T5, BART)."""
    out = []
    for m in known:
        if m.leaf == "shared" and m.kind == EMBEDDING:
            sides = ("encoder", "decoder") if arch.kind == "encoder-decoder" else ("encoder",)
            prefix = m.name.removesuffix("shared")
            out += [m._replace(name=f"{prefix}{side}.embed_tokens", tied=("weight",)) for side in sides]
    return out


def _tied_head(arch: Architecture, known: list[Module]) -> Module:
    """The output head that shares the token table; its weight is no parameter of its own."""
    name = arch.head_name
    width = next((m.d_out for m in known if m.kind == EMBEDDING and m.weights[0][1][0] == arch.vocab), arch.hidden)
    own = tuple(w for m in known if m.name == name for w in m.weights)
    known[:] = [m for m in known if m.name != name]
    tied: tuple[str, ...] = ("weight",)
    if not own and arch.head_bias_tied:  # BERT's decoder shares the bias of its prediction head too
        own, tied = (("bias", (arch.vocab,)),), ("weight", "bias")
    weights = (("weight", (arch.vocab, width)), *own)
    return Module(name, LINEAR, width, arch.vocab, bool(own), 1, None, weights, head=True, tied=tied)


def containers(known: Iterable[Module]) -> list[Module]:
    """The modules that only hold others (``model.layers.{i}.self_attn``), with the layers in which they stand."""
    known = list(known)
    names = {m.name for m in known}
    found: dict[str, dict[int, None]] = {}
    for m in known:
        parts = m.name.split(".")
        for end in range(1, len(parts)):
            name = ".".join(parts[:end])
            if name not in names:
                found.setdefault(name, {}).update(dict.fromkeys(m.indices if "{i}" in name else (0,)))
    return [
        Module(n, CONTAINER, times=len(at), layers=tuple(sorted(at)) if "{i}" in n else None) for n, at in found.items()
    ]


def replicate(known: list[Module], ranges: list[tuple[int, int]], prefix: str) -> list[Module]:
    """The modules of a model whose layers are repeated as peft's ``layer_replication`` says.

    ``[[0, 4], [2, 5]]`` stacks layers 0 1 2 3 2 3 4; the copies share their base weights but not their adapters.
    """
    sequence = [old for start, end in ranges for old in range(start, end)]
    out = []
    for m in known:
        if not (m.layered and m.name.startswith(prefix)):
            out.append(m)
            continue
        at = set(m.indices)
        new = tuple(i for i, old in enumerate(sequence) if old in at)
        if new:
            out.append(m._replace(times=len(new), layers=new))
    return out


def is_expert_stack(m: Module) -> bool:
    """True for the module that holds stacked routed experts."""
    return m.kind == HOLDER and any(len(shape) == 3 for _, shape in m.weights)


def natural(name: str) -> list[Any]:
    """A sort key that counts: layer 10 after layer 9."""
    return [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", name)]


__all__ = [
    "CONTAINER", "CONV1D", "CONVOLUTION", "EMBEDDING", "EXPERT", "HOLDER", "LINEAR", "NORM",
    "Module", "containers", "is_expert_stack", "modules", "natural", "replicate",
]  # fmt: skip
