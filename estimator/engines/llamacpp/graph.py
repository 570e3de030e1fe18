"""ggml's compute graph in small: tensors without data, in the order in which llama.cpp would run them.

As in ggml, an expression is built first and *expanded* later: :meth:`Graph.expand` walks its sources left to right,
depth first, and appends what it meets for the first time. That walk alone gives the order of the nodes and of the
inputs, and so decides what lives beside what. Source: ggml/src/ggml.c, ggml_build_forward_expand.
"""

from __future__ import annotations

from itertools import count
from math import prod

from estimator.dtypes import FORMATS

SIZES = {"f32": 4, "i32": 4, "f16": 2, "bf16": 2, "i64": 8}
IN_PLACE = frozenset(
    [
        "SCALE",
        "ADD",
        "ADD_ID",
        "MUL",
        "DIV",
        "RMS_NORM",
        "ROPE",
        "CLAMP",
        "SOFT_MAX",
        "FILL",
        "GELU",
        "SILU",
        "RELU",
        "SQR",
        "SQRT",
        "SUB",
        "TANH",
        "SIGMOID",
        "EXP",
        "NEG",
        "SOFTPLUS",
    ]
)  # operations that may write over a source: ggml-alloc.c, ggml_op_can_inplace (UNARY: by its function's name)

LEAF = "LEAF"  # no input of a batch, but a tensor that is there before the first node as well

Shape = tuple[int, ...]


def bytes_of(shape: Shape, type: str) -> int:
    """Bytes of a tensor; a quantised one lies in blocks."""
    return int(prod(shape) * SIZES[type] if type in SIZES else FORMATS[type].bytes(prod(shape)))


class GgmlTensor:
    """A node or an input.

    root      the tensor it is a view of; held: its memory lies elsewhere (a weight, a cache)
    bytes     of its own memory, none for a view
    strided   True for a view whose rows are not contiguous; output: a result, never freed or overwritten
    seen      whether the graph has it already; number: in order of creation, by which its layer is found
    weight    the module whose weight it multiplies by, or ""
    device    where it runs and lies: 0 is the host
    at, readers, views   while a graph is laid out: where it begins (None: nowhere), who has yet to read and to see it
    """

    __slots__ = (
        "at", "bytes", "device", "held", "number", "op", "output", "readers", "root", "seen", "shape", "sources",
        "strided", "type", "views", "weight",
    )  # fmt: skip
    numbers = count()

    def __init__(
        self,
        op: str,
        shape: Shape,
        sources: tuple[GgmlTensor, ...] = (),
        type: str = "f32",
        root: GgmlTensor | None = None,
        held: bool = False,
        strided: bool = False,
    ) -> None:
        self.op, self.shape, self.sources, self.type = op, shape, sources, type
        self.root, self.held, self.strided = root, held, strided
        self.bytes = 0 if held or root is not None else bytes_of(shape, type)
        self.output = self.seen = False
        self.number, self.weight, self.device = next(GgmlTensor.numbers), "", 0
        self.at: int | None = None
        self.readers = self.views = 0


HELD = GgmlTensor("HELD", (1,), held=True)  # any weight: where it lies, the layer of its reader says
CACHE = GgmlTensor("CACHE", (1,), held=True)  # any cache or state
HELD.seen = CACHE.seen = True


class Graph:
    """Nodes in order of execution, and the inputs in order of first use."""

    def __init__(self) -> None:
        self.nodes: list[GgmlTensor] = []
        self.inputs: list[GgmlTensor] = []
        self.named: dict[str, GgmlTensor] = {}

    def input(self, name: str, shape: Shape, type: str = "f32") -> GgmlTensor:
        """The input called ``name``; placed where the walk first meets it."""
        if name not in self.named:
            self.named[name] = GgmlTensor("INPUT", shape, type=type)
        return self.named[name]

    def expand(self, tensor: GgmlTensor) -> GgmlTensor:
        """Append ``tensor`` and what it needs, sources first."""
        if tensor.seen:
            return tensor
        tensor.seen = True
        for source in tensor.sources:
            if not source.seen:
                self.expand(source)
        (self.inputs if tensor.op in ("INPUT", LEAF) else self.nodes).append(tensor)
        return tensor


def op(name: str, shape: Shape, *sources: GgmlTensor, type: str = "f32", weight: str = "") -> GgmlTensor:
    """A node with memory of its own."""
    made = GgmlTensor(name, shape, sources, type)
    made.weight = weight
    return made


def like(name: str, first: GgmlTensor, *others: GgmlTensor) -> GgmlTensor:
    """An element-wise node: shape and type of its first source."""
    return GgmlTensor(name, first.shape, (first, *others), first.type)


def view(of: GgmlTensor, shape: Shape | None = None, strided: bool = False) -> GgmlTensor:
    """A reshape, a slice or a permutation: another look at the same memory."""
    root = of.root or of
    return GgmlTensor("VIEW", of.shape if shape is None else shape, (of,), of.type, root, strided=strided or of.strided)


def store(*sources: GgmlTensor) -> GgmlTensor:
    """Rows written into a cache: a view of memory that lies elsewhere."""
    return GgmlTensor("STORE", (1,), (*sources, CACHE), root=CACHE)


def cached(shape: Shape, type: str) -> GgmlTensor:
    """A look at a cache: ``shape`` elements, which are copied where they are read from elsewhere."""
    made = GgmlTensor(CACHE.op, shape, type=type, held=True)
    made.seen = True
    return made
