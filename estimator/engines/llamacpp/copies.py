"""What runs beside the two branches of a layer: an input of each layer's own, a low-rank branch, AltUp's copies.

Source: src/models/gemma3n.cpp and gemma4.cpp, build 11549.
"""

from __future__ import annotations

from estimator.engines.llamacpp.graph import HELD, GgmlTensor, like, op, view
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.families.base import Copies, Layer, Linear, Lookup, Norm, SideChain


def own_rows(p: GraphBuilder) -> GgmlTensor | None:
    """The rows of the table of all layers' own inputs, scaled; None where there is no such table."""
    table = next((x for x in p.arch.beside if isinstance(x, Lookup)), None)
    if table is None:
        return None
    width = size(table.width)
    rows = op("GET_ROWS", (width, p.tokens), HELD, p.graph.input("own_tokens", (p.tokens,), "i32"))
    return p.graph.expand(like("SCALE", view(rows)) if copied(p) else rows)


def own_inputs(p: GraphBuilder, x: GgmlTensor, rows: GgmlTensor) -> GgmlTensor:
    """Every layer's own input [own, T, layers]: the table's rows beside a projection of the stream, averaged."""
    projection = next(b for b in p.arch.beside if isinstance(b, Linear))
    norm = next(b for b in p.arch.beside if isinstance(b, Norm))
    own, T = size(norm.width), p.tokens
    shape = (own, rows.shape[0] // own, T)
    y = p.norm(norm, view(like("SCALE", p.through(projection, x)), shape))
    y = like("SCALE", like("ADD", y, view(rows if copied(p) else like("SCALE", rows), shape)))
    return op("CONT", (own, T, shape[1]), view(y, strided=True))


def own_input(p: GraphBuilder, chain: SideChain, x: GgmlTensor, given: GgmlTensor) -> GgmlTensor:
    """The layer's own input, gated by the stream and projected onto it."""
    gate, out, norm = chain.parts()
    return p.norm(norm, p.through(out, like("MUL", like("GELU", p.through(gate, x)), given)))


def copied(p: GraphBuilder) -> bool:
    """Whether the stream runs in several copies."""
    return any(isinstance(b, Copies) for b in p.arch.beside)


def _as_large(y: GgmlTensor, as_: GgmlTensor) -> GgmlTensor:
    """``y`` made as large as ``as_``, row by row."""

    def norm(t: GgmlTensor) -> GgmlTensor:
        return like("SQRT", op("SUM_ROWS", (1, *t.shape[1:]), like("SQR", t)))

    wanted = norm(as_)
    return like("DIV", like("MUL", y, wanted), norm(y))


def opened(p: GraphBuilder, x: GgmlTensor) -> GgmlTensor:
    """All copies of the stream [d, T, copies], made of the first."""
    n = next(len(b.linears) for b in p.arch.beside if isinstance(b, Copies))
    d, T = p.width, p.tokens
    rest = op("MUL_MAT", (d, T, n), HELD, op("REPEAT", (d, T, n), x))
    return op("CONCAT", (d, T, n + 1), x, _as_large(rest, x))


def merged(p: GraphBuilder, x: GgmlTensor) -> GgmlTensor:
    """The mean of the copies, the wanted rows of it."""
    d, T, n = x.shape
    first = view(x, (d, T), strided=True)
    rest = op("MUL_MAT", (d, T, n - 1), HELD, view(x, (d, T, n - 1), strided=True))
    rest = _as_large(rest, view(x, (d, T), strided=True))
    total = first
    for _ in range(n - 1):
        total = like("ADD", total, view(rest, (d, T), strided=True))
    return p.wanted(like("SCALE", total))


class AltUp:
    """A layer on copies of the stream: predicted before its branches, corrected behind them."""

    def __init__(self, p: GraphBuilder, layer: Layer) -> None:
        self.p = p
        low, mixing, own = layer.chains
        self.low, self.own = low, own
        self.norm, self.router, self.ahead, self.behind, _ = mixing.parts()

    def _modalities(self, x: GgmlTensor) -> GgmlTensor:
        return like("TANH", self.p.through(self.router, like("SCALE", self.p.norm(self.norm, x))))

    def predicted(self, x: GgmlTensor) -> GgmlTensor:
        """All copies as the router predicts them: [d, T, copies]."""
        d, T, n = x.shape
        turned = op("CONT", (n, d, T), view(x, strided=True))
        mixed = self.p.through(self.ahead, self._modalities(view(x, (d, T), strided=True)))
        y = op("MUL_MAT", (d, n, T), turned, view(mixed, (n, n, T)))
        return like("ADD", op("CONT", (d, T, n), view(y, strided=True)), x)

    def beside(self, attended: GgmlTensor, before: GgmlTensor) -> GgmlTensor:
        """The attention's sum and the low-rank branch, averaged."""
        left, right, norm = self.low.parts()
        y = self.p.norm(norm, self.p.through(right, self.p.through(left, before)))
        return like("SCALE", like("ADD", attended, like("ADD", y, before)))

    def corrected(self, predicted: GgmlTensor, x: GgmlTensor, given: GgmlTensor) -> GgmlTensor:
        """All copies behind the layer, but for the first with its own input added."""
        p = self.p
        d, T, n = predicted.shape
        news = op("REPEAT", (d, T, n), like("SUB", x, view(predicted, (d, T), strided=True)))
        shares = like("SCALE", p.through(self.behind, self._modalities(x)))
        shares = op("CONT", (1, T, n), view(shares, (T, n), strided=True))
        y = like("ADD", like("MUL", news, shares), predicted)
        first, rest = view(y, (d, T), strided=True), view(y, (d, T, n - 1), strided=True)
        added = own_input(p, self.own, like("MUL", view(y, (d, T), strided=True), HELD), given)
        return op("CONCAT", (d, T, n), first, like("ADD", rest, added))
