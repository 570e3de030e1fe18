"""One micro-batch of a model as llama.cpp builds it: the state that the emitters of a layer share."""

from __future__ import annotations

from typing import Any

from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.graph import HELD, GgmlTensor, Graph, like, op
from estimator.families.base import Architecture, Linear, Norm
from estimator.families.gguf import Gguf
from estimator.trace import value_of

FULL, WINDOW = "full", "window"  # the two caches of models with windows


def size(value: Any) -> int:
    """A size of the architecture as a plain int."""
    return int(value_of(value))


class GraphBuilder:
    """A graph under construction: the model, its context, and the sizes of the micro-batch."""

    def __init__(self, arch: Architecture, gguf: Gguf, context: Context) -> None:
        self.graph = Graph()
        self.arch, self.gguf, self.context = arch, gguf, context
        self.width = size(arch.hidden)
        self.tokens, self.rows = context.tokens, context.rows
        self.sequences = context.sequences
        self.windows = gguf.windows and any(a.cache_window is not None for a in arch.attentions)
        self.uniform = len({size(a.head_dim) for a in arch.attentions}) == 1  # heads of one width in all layers
        self.starts: list[int] = []  # number of the first tensor of each layer, then of what follows the last
        self.casts: dict[str, GgmlTensor] = {}  # masks in f16, where older builds cast them
        self.chosen: GgmlTensor | None = None  # keys that sparse attention looks at, in this layer and those after it
        self.cached: list[range] = []  # numbers of the tensors that read or write the cache
        self.first_values: GgmlTensor | None = None  # of the first layer, which later ones mix with theirs (RWKV 7)

    def begin(self) -> None:
        """A layer, or what follows the last one, starts here."""
        self.starts.append(GgmlTensor("MARK", (1,), held=True).number)

    def positions(self) -> GgmlTensor:
        return self.graph.input("pos", (self.tokens * self.gguf.positions,), "i32")

    def wanted(self, x: GgmlTensor) -> GgmlTensor:
        """The rows of ``x`` whose logits are asked for."""
        ids = self.graph.input("out_ids", (self.rows,), "i32")
        return op("GET_ROWS", (x.shape[0], self.rows), x, ids)

    def linear(self, x: GgmlTensor, n_out: int, bias: bool = False, name: str = "") -> GgmlTensor:
        """The weight of module ``name`` times ``x`` [n_in, rows]: [n_out, rows]."""
        y = op("MUL_MAT", (n_out, *x.shape[1:]), HELD, x, weight=name)
        return like("ADD", y, HELD) if bias else y

    def through(self, layer: Linear, x: GgmlTensor) -> GgmlTensor:
        return self.linear(x, size(layer.d_out), layer.bias, layer.name)

    def norm(self, norm: Norm, x: GgmlTensor) -> GgmlTensor:
        y = like("RMS_NORM" if self.gguf.rms or norm.kind.startswith("rms") else "NORM", x)
        if not norm.affine:
            return y
        y = like("MUL", y, HELD)
        return like("ADD", y, HELD) if norm.bias else y
