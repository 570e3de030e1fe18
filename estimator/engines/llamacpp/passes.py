"""One micro-batch of a model as llama.cpp builds it: the state that the emitters of a layer share."""

from __future__ import annotations

from typing import Any

from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.graph import HELD, GgmlTensor, Graph, like, op
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Linear, Norm, StateSpace
from estimator.families.common_gguf import Gguf
from estimator.records import NamedTuple
from estimator.storage.gguf_tensors import rotary_tables
from estimator.trace import value_of

FULL, WINDOW = "full", "window"  # the two caches of models with windows


def size(value: Any) -> int:
    """A size of the architecture as a plain int."""
    return int(value_of(value))


# a product that an adapter may add to: the module (experts: the stack's name), the layer or -1, which matrix of a stack
Spot = tuple[str, int, str]


class Pair(NamedTuple):
    """An adapter's two matrices for one product: their rank, the bytes of each, and the numbers in both."""

    rank: int
    a: int
    b: int
    elements: int


class Lora(NamedTuple):
    """An adapter: its name, and its pairs."""

    name: str
    pairs: dict[Spot, Pair]


def bare_modules(arch: Architecture, gguf: Gguf) -> frozenset[str]:
    """Modules that llama.cpp multiplies by with ggml_mul_mat itself, so that no adapter is added: src/models/*.cpp."""
    out: list[Linear] = []
    for layer in arch.layers:
        m = layer.mixer
        if isinstance(m, Attention) and m.mla is not None:
            out += m.projections
            out += () if m.indexer is None else (x for x in m.indexer.parts() if isinstance(x, Linear))
            out += () if gguf.whole_mla or arch.head is None else (arch.head,)
        elif isinstance(m, StateSpace) and m.kind == "channel_delta":
            out += m.linears
    return frozenset(x.name for x in out)


class GraphBuilder:
    """A graph under construction: the model, its context, its adapters, and the sizes of the micro-batch."""

    def __init__(self, arch: Architecture, gguf: Gguf, context: Context, loras: tuple[Lora, ...] = ()) -> None:
        self.graph = Graph()
        self.arch, self.gguf, self.context = arch, gguf, context
        self.width = size(arch.hidden)
        self.tokens, self.rows = context.tokens, context.rows
        self.sequences = context.sequences
        self.windows = gguf.windows and any(a.cache_window is not None for a in arch.attentions)
        self.uniform = len({size(a.head_dim) for a in arch.attentions}) == 1  # heads of one width in all layers
        self.factors = size(t[0].shape[0]) if (t := rotary_tables(arch)) else 0  # numbers of a rotary embedding's table
        self.starts: list[int] = []  # number of the first tensor of each layer, then of what follows the last
        self.casts: dict[str, GgmlTensor] = {}  # masks in f16, where older builds cast them
        self.chosen: GgmlTensor | None = None  # keys that sparse attention looks at, in this layer and those after it
        self.parts: dict[int, tuple[str, int, int]] = {}  # products with a share of a module's matrix
        self.normed: set[int] = set()  # numbers of the norms with a weight
        self.forced_host: set[int] = set()  # of what runs on the host where caches lie there
        self.loras, self.met = loras, set[Spot]()
        self.bare = bare_modules(arch, gguf) if loras else frozenset()
        self.first_values: GgmlTensor | None = None  # of the first layer, which later ones mix with theirs (RWKV 7)

    def begin(self) -> None:
        """A layer, or what follows the last one, starts here."""
        self.starts.append(GgmlTensor("MARK", (1,), held=True).number)

    def rope(self, x: GgmlTensor, a: Attention) -> GgmlTensor:
        """``x`` turned by its positions, with the model's factors of frequencies where the layer reads some."""
        plain = not self.factors or (self.gguf.full_factors and a.cache_window is not None)
        return like("ROPE", x, self.positions(), *([] if plain else [HELD]))

    def positions(self) -> GgmlTensor:
        return self.graph.input("pos", (self.tokens * self.gguf.positions,), "i32")

    def wanted(self, x: GgmlTensor) -> GgmlTensor:
        """The rows of ``x`` whose logits are asked for."""
        ids = self.graph.input("out_ids", (self.rows,), "i32")
        return op("GET_ROWS", (x.shape[0], self.rows), x, ids)

    def linear(self, x: GgmlTensor, n_out: int, bias: bool = False, name: str = "", of: int = 0) -> GgmlTensor:
        """The weight of module ``name`` times ``x`` [n_in, rows]: [n_out, rows]; of: outputs of the whole module."""
        y = op("MUL_MAT", (n_out, *x.shape[1:]), HELD, x, weight=name)
        if of:
            self.parts[y.number] = (name, n_out, of)
        y = self.adapted(y, x, name)
        return like("ADD", y, HELD) if bias else y

    def adapted(self, y: GgmlTensor, x: GgmlTensor, name: str, part: str = "", *ids: GgmlTensor) -> GgmlTensor:
        """``y``, the product of ``x`` with module ``name``, and what each adapter adds to it; ids: of experts."""
        at = (name, len(self.starts) - 1 if "{i}" in name else -1, part)
        for lora in self.loras:
            pair = lora.pairs.get(at)
            if pair is None:
                continue
            self.met.add(at)
            if name not in self.bare:
                product = "MUL_MAT_ID" if ids else "MUL_MAT"
                low = op(product, (pair.rank, *y.shape[1:]), HELD, x, *ids)
                y = like("ADD", y, like("SCALE", op(product, y.shape, HELD, low, *ids)))
        return y

    def check_adapters(self) -> None:
        """InputError where a pair has met no product of the graph."""
        left = next((at for lora in self.loras for at in lora.pairs if at not in self.met), None)
        if left is not None:
            raise InputError(
                f"--lora: {left[0].replace('{i}', str(left[1]))} has a pair, and no product that adapters are laid out "
                "for. Merge the adapter into the model"
            )

    def through(self, layer: Linear, x: GgmlTensor) -> GgmlTensor:
        return self.linear(x, size(layer.d_out), layer.bias, layer.name)

    def norm(self, norm: Norm, x: GgmlTensor) -> GgmlTensor:
        y = like("RMS_NORM" if self.gguf.rms or norm.kind.startswith("rms") else "NORM", x)
        if not norm.affine:
            return y
        self.normed.add(y.number)
        y = like("MUL", y, HELD)
        return like("ADD", y, HELD) if norm.bias else y
