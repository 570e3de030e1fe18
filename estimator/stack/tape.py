"""Tensors without data, autograd nodes, and a log of every allocation.

A :class:`Tensor` has a number of elements and a width; its :class:`Allocation` reports its birth and its death to the
tape. Simulated functions hold tensors in Python locals as the functions they imitate do, so lifetimes agree with
CPython's. The engine follows torch/csrc/autograd: nodes run in reverse order of creation, leaves as soon as they are
ready, gradients accumulate in place where the buffer has one owner.

Identical layers are simulated once, as a segment that is repeated (:meth:`Tape.repeated`). Sizes may be traced numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from sys import getrefcount
from typing import Any

from estimator.stack import moves
from estimator.stack.blocks import block_bytes
from estimator.stack.kernels import HOPPER, GpuKernels

F32 = 4
HALF = 2
I64 = 8
BOOL = 1

RESULT = "result"  # given as ``saved``: the operation saves its own output

Record = tuple[Any, tuple[str, str]]  # bytes, (where, what)


class Allocation:
    """Bytes that the allocator hands out while somebody refers to them."""

    __slots__ = ("record", "tape")

    def __init__(self, tape: Tape, nbytes: Any, what: tuple[str, str]) -> None:
        self.tape, self.record = tape, (tape.counts(nbytes), what)
        tape.log.append((1, self.record))

    def __del__(self) -> None:
        self.tape.log.append((-1, self.record))


class Tensor:
    """``n`` elements of ``w`` bytes; ``node`` made it where a gradient is wanted. Views share the storage.

    ``view``: a gradient that came through the backward pass of a view, which holds its base; ``lay``: how it lies, for
    those who log kernels (estimator.stack.moves).
    """

    __slots__ = ("idx", "lay", "n", "node", "st", "view", "w")

    def __init__(self, n: Any, w: int, st: Any, node: Any = None, idx: int = 0) -> None:
        self.n, self.w, self.st, self.node, self.idx = n, w, st, node, idx
        self.view = False
        self.lay = 0


class Param(Tensor):
    """A weight (or bias, or one layer's share of a group); its storage belongs to the model, not to the tape.

    A trainable one has a :class:`Leaf`. ``copy`` is autocast's cached half-precision copy.
    """

    __slots__ = ("copied_in", "copy", "name")

    def __init__(self, n: Any, w: int, name: str = "", trainable: bool = False) -> None:
        super().__init__(n, w, None)
        self.name = name
        self.copy: Tensor | None = None
        self.copied_in: Any = 1
        if trainable:
            self.node = Leaf(self)


class Leaf:
    """AccumulateGrad of ``variable``: ``grads`` is the gradient on its way, ``held`` the one kept until zero_grad."""

    __slots__ = ("deps", "grads", "held", "ins", "n", "name", "seq", "update", "variable", "w")
    leaf = True

    def __init__(self, p: Tensor) -> None:
        self.n, self.w, self.name, self.variable = p.n, p.w, getattr(p, "name", ""), p.st
        self.grads: list[Any] = [None]
        self.held: Tensor | None = None
        self.update: Any = None
        self.deps, self.seq = 0, 0
        self.ins: tuple[Any, ...] = ()


class GradFn:
    """One recorded operation: ``fn(tape, node, grad)`` returns the gradients of ``ins`` (None where unwanted)."""

    __slots__ = (
        "deps", "extra", "fn", "frame", "grads", "idxs", "ins", "lays", "rows", "saved", "seq", "where", "work",
    )  # fmt: skip
    leaf = False

    def __init__(
        self, seq: int, fn: Any, ins: tuple[Any, ...], idxs: Any, saved: Any, extra: Any, where: str, outs: int = 1
    ) -> None:
        self.seq, self.fn, self.ins, self.idxs = seq, fn, ins, idxs
        self.saved, self.extra, self.where = saved, extra, where
        self.grads: list[Any] = [None] * outs
        self.deps = 0
        self.frame: Frame | None = None
        self.work: tuple[Any, ...] = ()  # its products in the log of those: estimator.stack.products
        self.lays: tuple[int, ...] = ()  # how its inputs lay, where kernels are logged
        self.rows = False  # its result was viewed by heads, and its gradient has to be rows again


class Frame:
    """One checkpointed call: ``fn(x)`` is run again when the first of its ``nodes`` is needed.

    torch/utils/checkpoint.py, use_reentrant=False: saved tensors are dropped in the forward pass; the second run
    stops as soon as it has made the last of them. ``made``: its products, ``met``: how many the second run has met.
    """

    __slots__ = ("done", "fn", "made", "met", "nodes", "x")

    def __init__(self, fn: Any, x: Any) -> None:
        self.fn, self.x = fn, x
        self.nodes: list[GradFn] = []
        self.made: list[Any] = []
        self.met = 0
        self.done = False


class EndOfRecomputation(Exception):
    """Everything that was dropped is there again."""


class Tape:
    """The running program: ``log`` of allocations, whether gradients are recorded, whether autocast is on.

    ``work``, ``moves``: the logs of products and of kernels, where somebody asks for them; ``layer`` and ``of``: the
    kind of layer and the mixer that they belong to; ``rounds``: layers that a part of the backward pass stands for.
    """

    def __init__(self, grad: bool = True, amp: bool = False) -> None:
        self.log: list[Any] = []
        self.outer: list[Any] | None = None  # the log that the segment being recorded will stand in
        self.carried: list[Record] = []  # what a layer hands to the next: each round gives back the round before's
        self.grad, self.amp = grad, amp
        self.work: list[Any] | None = None
        self.moves: list[Any] | None = None
        self.rounds: Any = 1
        self.differentiates = False  # the backward pass runs
        self.where, self.layer, self.seq = "", "", 0
        self.of: Any = None
        self.casts: list[Param] = []
        self.attributes: dict[int, tuple[Allocation, Any]] = {}
        self.times: Any = 1
        self.frame: Frame | None = None
        self.again: list[Any] | None = None
        self.keeper: Any = None
        self.stops = True  # a recomputation ends with the last tensor that is needed: use_reentrant=False
        self.fp16 = False  # the 16-bit format is fp16, not bf16
        self.card: GpuKernels = HOPPER
        self.single = False  # one sequence: transposed rows are a matrix as they lie
        self.counts: Callable[[Any], Any] = block_bytes  # what the allocator counts for a request
        self.bare = False  # a weight's gradient is no view of its product: DeepSpeed's linear layer of stage 3
        self.cached = False  # autocast's copies of weights were made by a micro-batch before
        self.on_grad: Any = None  # called with a parameter's leaf whose gradient of this pass is complete

    def alloc(self, n: Any, w: int, what: str = "", where: str | None = None) -> Tensor:
        """A new tensor outside autograd."""
        return Tensor(n, w, Allocation(self, n * w, (self.where if where is None else where, what)))

    def emit(
        self, what: str, n: Any, w: int, ins: Sequence[Tensor], fn: Any, saved: Any = None, extra: Any = None
    ) -> Tensor:
        """The output of one operation on ``ins``, recorded where one of them wants a gradient."""
        kept = None
        if self.again is not None and saved is not None and saved is not RESULT:
            kept, saved = saved, self._handed_on(ins, saved)
        out = Tensor(n, w, Allocation(self, n * w, (self.where, what)))
        if self.moves is not None:
            moves.forward(self, what, fn, ins, out)
        if self.grad:
            self.record(out, ins, fn, saved, extra, kept)
        return out

    def _handed_on(self, ins: Sequence[Tensor], saved: Any) -> Any:
        """In a recomputation, what an operation saves goes to the node of the first run, which is differentiated."""
        for i in ins:
            if i.node is not None:
                assert self.again is not None
                self.again.append(saved)
                self._check_end()
                return None
        return saved

    def attribute(self, x: Tensor) -> None:
        """``x`` is an attribute of a Python node: no hook sees it, and it lives as long as the graph does."""
        if self.again is None and isinstance(x.st, Allocation):
            self.attributes[id(x.st)] = (x.st, self.times)

    def drop_graph(self) -> None:
        """The loss goes, the graph with it, and its nodes' attributes: one of each layer of a segment."""
        while self.attributes:
            _, (held, times) = self.attributes.popitem()
            with self.repeated(times if getrefcount(held) <= 2 else self.times):
                del held

    def _check_end(self) -> None:
        if not self.stops or self.again is None or self.frame is None:
            return
        if len(self.again) == len(self.frame.nodes):
            raise EndOfRecomputation

    def record(self, out: Tensor, ins: Sequence[Tensor], fn: Any, saved: Any = None, extra: Any = None,
               kept: Any = None) -> None:  # fmt: skip
        """Make ``out`` the result of a node if one of ``ins`` wants a gradient, which holds what was handed on too."""
        if self.again is not None and saved is not None and saved is not RESULT:
            kept, saved = saved, self._handed_on(ins, saved)
        nodes = tuple([i.node for i in ins])
        for node in nodes:
            if node is not None:
                self.seq += 1
                if saved is RESULT:
                    saved = out.st
                    if self.again is not None:
                        self.again.append(saved)
                saved = saved if kept is None else kept
                made = out.node = GradFn(self.seq, fn, nodes, [i.idx for i in ins], saved, extra, self.where)
                if self.moves is not None:
                    made.lays = tuple([i.lay for i in ins])
                if self.keeper is not None:
                    self.keeper.saved(made)
                if self.frame is not None:
                    self._checkpointed(made)
                return

    def _checkpointed(self, made: GradFn) -> None:
        if self.again is not None:
            self._check_end()
        elif made.saved is not None:
            made.saved, made.frame = None, self.frame
            assert self.frame is not None
            self.frame.nodes.append(made)

    def checkpoint(self, fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """``fn(x)`` without what it saves."""
        if not self.grad:
            return fn(x)
        frame = self.frame = Frame(fn, x)
        try:
            return fn(x)
        finally:
            self.frame = None
            if not frame.nodes:
                frame.x = None
            elif self.keeper is not None:
                frame.x = self.keeper.checkpointed(x)

    def recompute(self, frame: Frame) -> None:
        """Run a checkpointed call again and hand its nodes what they need."""
        keep, where, casts, seq = self.grad, self.where, self.casts, self.seq
        x = frame.x if self.keeper is None else self.keeper.restored(frame.x)
        detached = Tensor(x.n, x.w, x.st, Leaf(Param(x.n, x.w)) if x.node is not None else None)
        self.grad, self.frame, self.again, self.casts = True, frame, [], []
        keeper, self.keeper = self.keeper, None  # the recomputation's own hooks take over
        with suppress(EndOfRecomputation):
            frame.fn(detached)
        for node, saved in zip(frame.nodes, self.again, strict=True):
            node.saved = saved
        self.leave_autocast()
        self.grad, self.where, self.casts, self.seq = keep, where, casts, seq
        self.frame, self.again, frame.done, frame.nodes = None, None, True, []
        self.keeper = keeper

    def autocast(self, p: Tensor) -> Tensor:
        """``p`` as autocast feeds it to a matrix product: half precision, weights through the cache."""
        if not self.amp or p.w != F32:
            return p
        if isinstance(p, Param):
            if self.cached and p.node is not None:
                made = Tensor(p.n, HALF, None)
                self.record(made, (p,), to_backward, None, F32)
                return made
            if p.copy is None:
                where, self.where = self.where, "autocast"
                p.copy = self.emit("bf16 copy of a weight", p.n, HALF, (p,), to_backward, None, F32)
                self.where = where
                if p.node is None:  # only leaves that want gradients are cached
                    made, p.copy = p.copy, None
                    assert made is not None
                    return made
                p.copied_in = self.times
                self.casts.append(p)
            return p.copy
        return self.emit("to bf16", p.n, HALF, (p,), to_backward, None, F32)

    def leave_autocast(self) -> None:
        """The end of the autocast context: the cache is cleared."""
        for p in self.casts:
            copy, p.copy = p.copy, None
            if copy is not None and p.copied_in != self.times and getrefcount(copy.st) <= 2:
                with self.repeated(p.copied_in):  # one of each of the layers that the segment stands for
                    copy = None
        self.casts = []

    @contextmanager
    def repeated(self, times: Any) -> Iterator[None]:
        """Record what happens inside as a segment that is repeated ``times`` times."""
        if times == 1:
            yield
            return
        outer, self.log = self.log, []
        before, self.times = self.times, times
        above, self.outer = self.outer, outer if self.outer is None else self.outer
        try:
            yield
        finally:
            outer.append((times, self.log))
            self.log, self.times, self.outer = outer, before, above

    @contextmanager
    def once(self) -> Iterator[None]:
        """Record what happens inside before the segment: layers share it, and the first of them makes it."""
        inside, self.log = self.log, self.log if self.outer is None else self.outer
        try:
            yield
        finally:
            self.log = inside

    @contextmanager
    def at(self, where: str, of: Any = None) -> Iterator[None]:
        """Name the part of the model that allocations inside belong to, and the mixer whose products they are."""
        before, self.where, mixer, self.of = self.where, where, self.of, of
        try:
            yield
        finally:
            self.where, self.of = before, mixer

    @contextmanager
    def no_autocast(self) -> Iterator[None]:
        """Inside a kernel that autocast has already prepared its arguments for."""
        before, self.amp = self.amp, False
        try:
            yield
        finally:
            self.amp = before


def to_backward(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor, ...]:
    """The gradient of a conversion: back to the width of the input, which is ``node.extra``."""
    return (g if g.w == node.extra else t.alloc(g.n, node.extra, "gradient, converted"),)
