"""A linear layer with an adapter that states its own operations: what its ``forward`` is given.

A method of :mod:`estimator.peft` writes the forward of peft's layer on the tape, with the operations of
:mod:`estimator.stack.ops` and :mod:`estimator.stack.algebra`; its locals hold tensors as peft's hold them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.families.base import Linear
from estimator.records import NamedTuple
from estimator.stack import ops, products
from estimator.stack.machine import Machine
from estimator.stack.nn import PARTS, UNLOGGED, base_linear, product, unpack
from estimator.stack.packed import INT8
from estimator.stack.tape import F32, I64, Param, Tensor
from estimator.trace import value_of


class AdapterTensor(NamedTuple):
    """One tensor of an adapter in one module: the module that holds it ("" for all), its shape, its numbers, whether
    they are in the ``format`` of the adapter, of the model or 64-bit ("tuner", "base", "index"), whether it trains,
    whether it lies on the CPU."""

    module: str
    shape: tuple[Any, ...]
    n: Any
    format: str
    trains: bool
    host: bool = False


class AdaptedLayer:
    """One adapted layer as it runs.

    t, x, w     the tape, the layer's input, and the input's width (bytes of a number)
    rows        tokens that pass; d_in, d_out: the layer's sides
    n_w, n_out  elements of its weight, and of its output
    args        the method's arguments
    width       bytes of an adapter's number
    """

    __slots__ = ("_lin", "_m", "_part", "args", "d_in", "d_out", "held", "n_out", "n_w", "rows", "t", "w", "width", "x")

    def __init__(
        self, m: Machine, x: Tensor, lin: Linear, rows: Any, part: str, args: Any, held: dict[str, AdapterTensor],
        width: int,
    ) -> None:  # fmt: skip
        self._m, self.t, self.x, self._lin, self.rows, self._part = m, m.t, x, lin, rows, part
        self.d_in, self.d_out, self.n_w, self.n_out = lin.d_in, lin.d_out, lin.d_in * lin.d_out, rows * lin.d_out
        self.args, self.held, self.width, self.w = args, held, width, x.w

    def has(self, name: str) -> bool:
        """Whether the module holds a tensor called ``name``."""
        return name in self.held

    def p(self, name: str, trains: bool | None = None) -> Param:
        """The adapter's tensor called ``name``; ``trains``: where the library's differs from what is counted."""
        own = self.held[name]
        width = {"tuner": self.width, "base": self._m.w, "index": I64}[own.format]
        trained = own.trains if trains is None else trains
        return self._m.param(f"{own.module or 'adapter'}.{name}", own.n, width, trained)

    def view(self, name: str) -> Tensor:
        """The tensor called ``name`` seen otherwise (transposed): no leaf, of which autocast would keep a copy."""
        p = self.p(name)
        return Tensor(p.n, p.w, p.st, p.node, p.idx)

    def brought(self, name: str, w: int) -> Tensor:
        """A frozen tensor on the card in a width of its own: a copy where it lies on the CPU or in another."""
        p = self.p(name)
        return self.t.alloc(p.n, w, f"{name}, brought") if self.held[name].host or p.w != w else self.part(name, p.n)

    def item(self, name: str, i: int, n: Any) -> Param:
        """The ``i``-th of several parameters that are counted as one tensor: ``n`` numbers."""
        own = self.held[name]
        return self._m.param(f"{own.module}.{name}.{i}", n, self.width, own.trains)

    def part(self, name: str, n: Any) -> Tensor:
        """``n`` numbers of a frozen tensor: a slice of it."""
        return Tensor(n, self.p(name).w, None)

    def shape(self, name: str) -> tuple[Any, ...]:
        """The shape of the adapter's tensor called ``name``."""
        return self.held[name].shape

    def base(self, x: Tensor | None = None) -> Tensor:
        """self.base_layer(x)."""
        return base_linear(self._m, self.x if x is None else x, self._lin, self.rows, self._part)

    def weight(self) -> Tensor:
        """The layer's own weight, unpacked where it is packed (get_base_weight)."""
        kind = self._m.packed(self._lin.name)
        if kind == INT8:
            return self.t.alloc(self.n_w, F32, "unpacked weight")
        return unpack(self.t, self.n_w, kind == "nested") if kind else self._m.weight(self._lin)[0]

    @property
    def same_width(self) -> bool:
        """Whether the adapter is in the model's format, so that peft's cast_adapter_dtype changes nothing."""
        return self.width == self._m.w

    @property
    def sequences(self) -> Any:
        """Sequences of the batch."""
        return self._m.b

    def handed(self, name: str, n: Any) -> Tensor:
        """What the adapter's model made before the layers, called ``name``; where it made nothing, as much of it."""
        found = self._m.beside.get(name)
        return self.t.alloc(n, self._m.w, name) if found is None else found

    @property
    def packed(self) -> bool:
        """Whether the layer's weight is packed in 4 or 8 bits."""
        return bool(self._m.packed(self._lin.name))

    def bias(self) -> Tensor | None:
        """The layer's own bias."""
        return self._m.param(f"{self._lin.name}.bias", self.d_out) if self._lin.bias else None

    def linear(self, x: Tensor, weight: Tensor, n: Any = None, bias: Tensor | None = None) -> Tensor:
        """torch.nn.functional.linear with a weight of the adapter's, or one that it made; ``n`` results (n_out)."""
        return product(self.t, x, weight, bias, self.n_out if n is None else n, "adapter product", part=UNLOGGED)

    def in_place(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's own product with a weight that takes the place of its own. Logged as its own is, whose weight is
        frozen: what the gradient of the other costs is in the method's work."""
        out = self.linear(x, weight, bias=bias)
        if self.t.work is not None:
            name, part = self._lin.name, self._part or PARTS.get(self._lin.role, "") or products.part_at(self.t)
            products.log(self.t, out, name, part, self.rows, self.d_in, self.d_out, weight=self.n_w, grads=(0, False))
        return out

    def dropped(self, x: Tensor, name: str) -> Tensor:
        """The input after the adapter's torch.nn.Dropout, whose probability is the argument ``name``."""
        return ops.dropout(self.t, x) if self.drops(name) else x

    def drops(self, name: str) -> bool:
        """Whether a probability of the adapter's is above 0."""
        share = self.args[name] or 0
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise self.args.bad(name, "must be a number")
        return share > 0 and self._m.training and not self._m.drops.silent

    def count(self, name: str, default: int) -> int:
        """An argument that is a whole number."""
        return self.steps(name, self.args.count(name)) if self.args.has(name) else default

    def steps(self, name: str, times: Any, most: int = 1_000) -> int:
        """How often a loop runs, as the argument ``name`` says. InputError where it is too often to go through, here or
        in all layers so far."""
        if int(value_of(times)) > most:
            raise self.args.bad(name, f"must be at most {most:,}: each step is simulated")
        if self.t.seq > OPERATIONS:
            raise self.args.bad(name, f"makes more than {OPERATIONS:,} operations in a step: each is simulated")
        return int(value_of(times))

    def flag(self, name: str, default: bool = False) -> bool:
        """An argument that is true or false."""
        return self.args.flag(name) if self.args.has(name) else default


OPERATIONS = 40_000  # recorded in a step by an adapter that loops
Forward = Callable[[AdaptedLayer], Tensor]


def run(forward: Forward, args: Any, held: dict[str, AdapterTensor], work: tuple[tuple[Any, Any, Any], ...], width: int,
        m: Machine, x: Tensor, lin: Linear, rows: Any, part: str) -> Tensor:  # fmt: skip
    """The adapted layer's output, and its products in the log."""
    out = forward(AdaptedLayer(m, x, lin, rows, part, args, held, width))
    if m.t.work is not None:
        products.adapter(m.t, out, lin.name, rows, work, x.node is not None)
    return out
