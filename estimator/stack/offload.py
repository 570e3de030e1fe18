"""Activation offloading: what autograd keeps goes to the host and comes back when the backward pass wants it.

What leaves lives on until five more tensors were saved; what is saved again while it does is *not* offloaded a second
time but stays on the card until its backward node runs: a norm's fp32 input, the input of q, k and v, of gate and up,
the attention's output. That, not the stash, is most of what remains.

Source: trl 1.16, models/activation_offloading.py (after torchtune): pack_tensor, unpack_tensor_with_streams.
"""

from __future__ import annotations

from typing import Any

from estimator.stack.blocks import BLOCK
from estimator.stack.tape import Allocation, GradFn, Tape, Tensor

STASH = 5  # max_fwd_stash_size
LEAST = 1024  # min_offload_size, bytes
INPUTS = "inputs"  # of checkpointed layers alone
LEAST_INPUT = 2 * 1024**2  # of bytes that go to the host under INPUTS, through two buffers that stay


class Gone:
    """Bytes that lie on the host."""

    __slots__ = ("record",)

    def __init__(self, record: Any) -> None:
        self.record = record


class Offload:
    """The pair of hooks around one step."""

    def __init__(self, t: Tape) -> None:
        self.t = t
        self.count = 0
        self.stash: dict[int, Allocation] = {}
        self.tracked: dict[int, int] = {}  # id of a storage -> the number under which it was seen last
        self.pending: GradFn | None = None
        self.back: list[Allocation] = []

    def saved(self, node: GradFn) -> None:
        """``node`` was recorded; it is packed when the next one comes, since kernels add their results late."""
        self.settle()
        self.pending = node

    def settle(self) -> None:
        node, self.pending = self.pending, None
        if node is not None and node.saved is not None:
            node.saved = self._pack(node.saved)

    def _pack(self, saved: Any) -> Any:
        if isinstance(saved, Allocation):
            return self._leave(saved)
        if isinstance(saved, (list, tuple)):
            return [self._pack(s) for s in saved]
        return saved

    def _leave(self, st: Allocation) -> Allocation | Gone:
        self.count += 1
        if id(st) in self.tracked:
            self.tracked[id(st)] = self.count
            return st
        if st.record[0] <= max(LEAST, BLOCK):
            return st
        self._evict(self.count - STASH)
        self.stash[self.count] = st
        self.tracked[id(st)] = self.count
        return Gone(st.record)

    def _evict(self, last: int) -> None:
        for number in [n for n in self.stash if n <= last]:
            st = self.stash.pop(number)
            if self.tracked.get(id(st)) == number:
                del self.tracked[id(st)]

    def checkpointed(self, x: Tensor) -> Tensor:
        """The input of a checkpointed layer, which is saved like any other tensor."""
        return Tensor(x.n, x.w, self._leave(x.st), x.node, x.idx)

    def restored(self, x: Tensor) -> Tensor:
        if isinstance(x.st, Gone):
            return Tensor(x.n, x.w, self._back(x.st), x.node, x.idx)
        return x

    def _back(self, gone: Gone) -> Allocation:
        made = Allocation.__new__(Allocation)
        size, what = gone.record
        made.tape, made.record = self.t, (size, what)  # another buffer than the one that left
        self.t.log.append((1, made.record))
        return made

    def flush(self) -> None:
        """The end of a layer: equal layers are recorded once, so nothing of one may outlive it here."""
        self.settle()
        self._evict(self.count)
        self.tracked = {}
        self.back = []

    def bring(self, node: GradFn) -> list[Allocation]:
        """Copies of what ``node`` saved, back on the card."""
        if node is self.pending:
            self.settle()
        made: list[Allocation] = []
        node.saved = self._unpack(node.saved, made)
        return made

    def _unpack(self, saved: Any, made: list[Allocation]) -> Any:
        if isinstance(saved, Gone):
            made.append(self._back(saved))
            return made[-1]
        return [self._unpack(s, made) for s in saved] if isinstance(saved, list) else saved

    def done(self, made: list[Allocation]) -> None:
        """After a node: what the node before it brought back goes."""
        if made:
            self.back = made


class Inputs(Offload):
    """Only what a checkpointed layer is given goes to the host, at once and where it is large enough to be worth it
    (unsloth_zoo/gradient_checkpointing.py, MINIMUM_SIZE)."""

    def saved(self, node: GradFn) -> None:
        """What a layer keeps within its own pass stays."""

    def checkpointed(self, x: Tensor) -> Tensor:
        if x.st.record[0] <= LEAST_INPUT:
            return x
        gone: Any = Gone(x.st.record)
        return Tensor(x.n, x.w, gone, x.node, x.idx)
