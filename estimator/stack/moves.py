"""The log of a step's kernels beside its products, kept for those who ask: bytes moved and launches are folds over it.

Every operation that makes a tensor reads its inputs and writes its result in one kernel, and so does its backward
formula for each gradient that is asked for; an operation that does otherwise says so by :func:`moving`, at its backward
function. What torch launches was read in tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp,
and is held to what its dispatcher counts (tests/exact/test_kernels.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from estimator.records import NamedTuple

if TYPE_CHECKING:
    from estimator.stack.tape import GradFn, Tape, Tensor

FORWARD, AGAIN, BACKWARD = "forward", "recomputed", "backward"

# how a tensor lies: row by row, part of longer rows; heads before tokens, seen so or really so; parts of both; head by
# head with the tokens innermost (the gradient of keys, which were multiplied transposed), the same seen as rows; a view
# in which one number stands for many
ROWS, PART, SEEN_BY_HEADS, BY_HEADS, PART_SEEN, PART_BY_HEADS, TURNED, COLUMNS, SPREAD = range(9)
BROKEN = (PART, SEEN_BY_HEADS, PART_SEEN, PART_BY_HEADS, TURNED, COLUMNS, SPREAD)  # not contiguous
APART = (PART, PART_SEEN, PART_BY_HEADS, SPREAD)  # there are others between the numbers, or fewer than are seen
# how what a pointwise kernel makes of them lies
AFTER = (ROWS, ROWS, SEEN_BY_HEADS, BY_HEADS, SEEN_BY_HEADS, BY_HEADS, TURNED, COLUMNS, ROWS)
# how it lies where the tokens come first again
AS_ROWS = (ROWS, PART, ROWS, ROWS, PART, PART, COLUMNS, COLUMNS, SPREAD)
# how what is written in their place lies
ANEW = (ROWS, ROWS, BY_HEADS, BY_HEADS, BY_HEADS, BY_HEADS, BY_HEADS, ROWS, ROWS)
PART_OF = (PART, PART, PART_SEEN, PART_BY_HEADS, PART_SEEN, PART_BY_HEADS, TURNED, COLUMNS, PART)
# how they lie seen the other way round: heads or channels before tokens, or tokens before those
PERMUTED = (SEEN_BY_HEADS, PART_SEEN, ROWS, COLUMNS, PART, COLUMNS, COLUMNS, BY_HEADS, PART_SEEN)


class Kernel(NamedTuple):
    """Kernels of one operation in each of ``times`` layers.

    what, where   the operation, and the part of the model it stands in
    phase         :data:`FORWARD`, :data:`AGAIN` (checkpointing runs it a second time) or :data:`BACKWARD`
    launches      kernels
    moved         bytes read and written by those over contiguous tensors
    strided       elements written by those over broadcast or permuted tensors, which are bound by their indexing
    welford       elements that LayerNorm's kernel passes through, which is bound by its running mean and variance
    engine        True for what a serving engine runs in place of all others
    """

    what: str
    where: str
    phase: str
    times: Any
    launches: Any = 1
    moved: Any = 0
    strided: Any = 0
    welford: Any = 0
    engine: bool = False


Rule = Callable[..., None]
FORWARDS: dict[Any, Rule] = {}
BACKWARDS: dict[Any, Rule] = {}


def moving(forward: Rule | None = None, backward: Rule | None = None) -> Callable[[Any], Any]:
    """Of a backward function: what its operation's kernels do, forward(t, what, out, ins) and backward(t, node, g,
    outs), where they are not one kernel a result."""

    def register(fn: Any) -> Any:
        if forward is not None:
            FORWARDS[fn] = forward
        if backward is not None:
            BACKWARDS[fn] = backward
        return fn

    return register


def likewise(fn: Any, forward: Rule | None = None, backward: Rule | None = None) -> Any:
    """The backward function ``fn`` once more, for an operation whose kernels are others."""

    @moving(forward, backward)
    def own(t: Tape, node: GradFn, g: Tensor) -> Any:
        return fn(t, node, g)

    return own


def log(t: Tape, what: str, launches: Any = 1, moved: Any = 0, strided: Any = 0, welford: Any = 0) -> None:
    """Log kernels at this point of the step."""
    if t.moves is None:
        return
    phase = BACKWARD if not t.grad and t.differentiates else AGAIN if t.again is not None else FORWARD
    t.moves.append(Kernel(what, t.where, phase, t.times * t.rounds, launches, moved, strided, welford))


def fused(t: Tape, what: str, moved: Any, launches: Any = 1) -> None:
    """What a serving engine runs for what has just been run: all of it in ``launches`` kernels."""
    if t.moves is not None and t.again is None:
        t.moves.append(Kernel(what, t.where, FORWARD, t.times, launches, moved, engine=True))


def over(t: Tape, what: str, ins: Sequence[Tensor], out: Tensor) -> None:
    """One kernel from ``ins`` to ``out``: strided where an input is spread over the result, or lies otherwise, or has
    another type (aten/native/cuda/Loops.cuh does not vectorise those either)."""
    big = out.n
    strided = False
    moved = 0
    for x in ins:
        if x.lay in BROKEN or x.lay != ins[0].lay or x.w != ins[0].w or (x.n != big and x.n != 1):
            strided = True
        moved = moved + x.n * x.w
    if strided:
        log(t, what, strided=big)
    else:
        log(t, what, moved=moved + big * out.w)


def forward(t: Tape, what: str, fn: Any, ins: Sequence[Tensor], out: Tensor) -> None:
    """Log what made ``out``, and how it lies."""
    rule = FORWARDS.get(fn)
    if rule is not None:
        rule(t, what, out, ins)
        return
    over(t, what, ins, out)
    first = next((x for x in ins if x.n == out.n), None)
    if first is not None:
        out.lay = AFTER[first.lay]
    elif ins and ins[0].lay == COLUMNS:
        out.lay = COLUMNS


def awry(node: GradFn, g: Tensor) -> bool:
    """Whether a gradient is not contiguous as its operation saw it: heads first where rows went in."""
    return g.lay in BROKEN or (g.lay == BY_HEADS and bool(node.lays) and node.lays[0] in (ROWS, PART, COLUMNS))


def one(t: Tape, node: GradFn, g: Tensor, what: str, moved: Any) -> None:
    """One kernel over a gradient."""
    if awry(node, g):
        log(t, what, strided=g.n)
    else:
        log(t, what, moved=moved)


def backward(t: Tape, node: GradFn, g: Any, outs: Sequence[Tensor | None]) -> None:
    """Log what a node's backward formula ran."""
    if node.rows:
        for part in g if isinstance(g, list) else (g,):
            if part is not None:
                if part.lay == BY_HEADS:
                    log(t, "gradient, copied", strided=part.n)
                part.lay = AS_ROWS[part.lay]
    rule = BACKWARDS.get(node.fn)
    if rule is not None:
        rule(t, node, g, outs)
        return
    for out in outs:
        if out is not None and out.st is not g.st:
            one(t, node, g, "gradient", g.n * g.w + out.n * out.w)
            out.lay = AFTER[g.lay] if g.n == out.n else ROWS


def nothing(*_: Any) -> None:
    """A view, or a product, which has a log of its own."""


def reduced(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """A sum or a mean."""
    summed(t, what, ins[0], out.n)
    out.lay = ANEW[ins[0].lay]


def summed(t: Tape, what: str, x: Tensor, n: Any) -> None:
    """Every number is read, few are written. The kernel goes along whichever axis lies innermost
    (aten/native/cuda/Reduce.cuh), so that only holes between the numbers are in its way."""
    if x.lay in APART:
        log(t, what, strided=x.n)
    else:
        log(t, what, moved=(x.n + n) * x.w)


def copied(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """A contiguous copy of what does not lie so, or of what does."""
    x = ins[0]
    if x.lay == ROWS:
        log(t, what, moved=x.n * x.w + out.n * out.w)
    else:
        log(t, what, strided=out.n)
    out.lay = BY_HEADS if x.lay in (SEEN_BY_HEADS, PART_SEEN) else ROWS


def joined(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """A concatenation."""
    log(t, what, strided=out.n)
    out.lay = BY_HEADS if any(SEEN_BY_HEADS <= x.lay <= TURNED for x in ins) else ROWS


def looked_up(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Rows of a table: as many are read as written."""
    log(t, what, moved=2 * out.n * out.w)


def part_of(x: Tensor) -> int:
    """How a slice of ``x`` lies."""
    return PART_OF[x.lay]


def in_parts(whole: Tensor, tensors: Sequence[Tensor]) -> None:
    """They are columns of one tensor."""
    for x in tensors:
        x.lay = part_of(whole)


def by_heads(*tensors: Tensor) -> None:
    """View them with the heads before the tokens."""
    for x in tensors:
        x.lay = TURNED if x.lay == COLUMNS else SEEN_BY_HEADS


def viewed(*tensors: Tensor) -> None:
    """They are rows whose numbers are then seen head by head: a gradient that lies otherwise is copied. What was split
    says so itself (``ops.split``)."""
    for x in tensors:
        if x.node is not None and not x.node.leaf and len(x.node.grads) == 1:
            x.node.rows = True


def gathered(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Rows picked by an index."""
    log(t, what, strided=out.n)


def masked(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Some numbers replaced, in a copy."""
    log(t, what, strided=out.n)
    out.lay = ANEW[ins[0].lay]


def padded(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """A copy with zeros after it, which keeps its order where there is nothing to add, or channels lie last
    (aten/native/PadNd.cpp)."""
    x = ins[0]
    log(t, what, strided=out.n)
    out.lay = AFTER[x.lay] if out.n == x.n or (x.lay == COLUMNS and not t.single) else ANEW[x.lay]


def summed_along(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """A cumulative sum."""
    over(t, what, ins, out)
    out.lay = ANEW[ins[0].lay]


def several(launches: int, tensors: int, backward_launches: int, backward_tensors: int) -> Callable[[Any], Any]:
    """Of a function that a class writes out operation by operation, and that is one node: its kernels, and how many
    tensors of its result's size they read and write."""

    def ahead(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
        log(t, what, launches, tensors * out.n * out.w)

    def back(t: Tape, node: GradFn, g: Tensor, outs: Sequence[Tensor | None]) -> None:
        if outs[0] is not None:
            log(t, "gradient of a function", backward_launches, backward_tensors * g.n * g.w)

    return moving(ahead, back)


def accumulated(t: Tape, held: Tensor, g: Tensor) -> None:
    """Two gradients of one tensor, added."""
    if held.lay != g.lay or held.lay in BROKEN:
        log(t, "gradients, added", strided=g.n)
    else:
        log(t, "gradients, added", moved=3 * g.n * g.w)


def repeated(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """A larger tensor written out head by head: heads for every query head, or all pairs of tokens."""
    log(t, what, strided=out.n)
    out.lay = BY_HEADS


def written(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Each of the parts copied into a tensor that lies head by head."""
    log(t, what, len(ins), strided=out.n)
    out.lay = BY_HEADS


def complex_product(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Pairs of numbers, each multiplied as one."""
    log(t, what, strided=out.n // 2)
    out.lay = AFTER[ins[0].lay]


def multiplied_out(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """A batch of products, one a head."""
    out.lay = BY_HEADS


def normed(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """LayerNorm's forward kernel."""
    log(t, what, welford=out.n)


def picked(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """One number a row of what is there."""
    log(t, what)


def attended(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Fused attention: the result lies as the queries do."""
    out.lay = ins[0].lay


def attended_rows(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """Memory-efficient attention: the result lies by tokens."""
    out.lay = SEEN_BY_HEADS


def stored(t: Tape, what: str, out: Tensor, ins: Sequence[Tensor]) -> None:
    """New keys or values written into a cache, whose layers hold theirs: only they move."""
    x = ins[0]
    if x.lay in BROKEN:
        log(t, what, strided=x.n)
    else:
        log(t, what, moved=2 * x.n * x.w)
    out.lay = BY_HEADS
