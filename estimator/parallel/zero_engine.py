"""DeepSpeed around one GPU's training step: flat partitions, buckets of gradients, gathered weights.

Stages 1 and 2 hold whole 16-bit weights and flatten what trains into one buffer, of which each GPU updates an equal
part in fp32. A gradient is copied into a bucket as it arrives and freed; a full bucket is reduced, and what belongs to
this GPU's part is copied out. Stage 1 does the same where contiguous_gradients or overlap_comm are on, as by default,
but keeps whole gradients between micro-batches. Stage 3 partitions every weight; :mod:`coordinator` says which of them
lie gathered when. Rank 0 is followed, whose part holds the first layers, whose gradients come last; or under stages 1
and 2 the last rank, which has its 16-bit gradients through most of the backward pass.

Sources (0.19.8): deepspeed/runtime/zero/stage_1_and_2.py, stage3.py, runtime/fp16/fused_optimizer.py (stage 0),
runtime/comm/coalesced_collectives.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from estimator.families.base import MLP, Architecture, Layer
from estimator.inventory import Weight
from estimator.ops import ceil_div, maximum, minimum
from estimator.optimizers import Trained
from estimator.parallel.coordinator import Settings, available, modules_of, settings, trace
from estimator.parallel.order import in_order
from estimator.parallel.zero_standing import KEPT, Own, largest_sub_group, own_part, prepare
from estimator.stack.tape import F32, HALF, Tape, Tensor
from estimator.trace import value_of

STACKED = 3  # dimensions of experts' weights
NORM, DOUBLE = 250_000_000, 8  # elements of which a norm is taken at once, bytes of one


class Engine:
    """What the simulated step reports to. ``own``: elements of the weights that touch this GPU's part; overlap: a
    second bucket fills while the first is reduced (overlap_comm); last: the last rank's part."""

    apart = False
    end = None  # the loss is taken inside

    def __init__(self, tape: Tape, stage: int, over: Any, rules: Settings, trained: Any, accumulates: bool,
                 offload: str, overlap: bool, last: bool, own: Own) -> None:  # fmt: skip
        self.overlap, self.rank = overlap, int(value_of(over)) - 1 if last else 0
        self.t, self.stage, self.over, self.rules = tape, stage, over, rules
        self.part = ceil_div(trained, over)
        self.accumulates, self.offload = accumulates, offload
        self.ahead: frozenset[str] | None = None  # weights before the layers; None: those that run before them
        self.offsets: dict[int, int] = {}
        self.times: dict[int, tuple[int, int]] = {}  # leaf -> layers that it stands for, elements from one to the next
        self.spans: list[tuple[int, int, int]] = []  # leaves of a segment of equal layers, and how many these are
        self.mark = 0
        self.own = own
        self.buckets: list[Tensor] = []
        self.filled, self.waiting = 0, list[Any]()
        self.kept: Tensor | None = None
        self.whole: list[Any] = []
        self.standing: list[Tensor] = []
        self.sizes: list[Any] = []  # of the gradients that stand between micro-batches: stage 1

    def take(self, n: Any, width: int, what: str) -> Tensor:
        made = self.t.alloc(n, width, what, "DeepSpeed")
        self.t.carried.append(made.st.record)  # of one layer, then of the next
        return made

    def before_forward(self) -> None:
        """Stage 1 between micro-batches: whole gradients, and the buckets that the first of them made."""
        self.standing = [self.take(n, HALF, "gradients of earlier micro-batches") for n in self.sizes]
        if self.sizes:
            self.open_buckets()

    def open_buckets(self) -> None:
        count = 2 if self.stage < 3 and self.overlap else 1
        self.buckets = [self.take(self.rules.bucket, HALF, "bucket of gradients") for _ in range(count)]

    def before_layer(self, key: int, layer: Layer, leaves: int) -> None:
        self.mark = leaves

    def after_layer(self, key: int, leaves: Sequence[Any]) -> None:
        self.spans.append((self.mark, len(leaves), int(value_of(self.t.times))))

    def after_forward(self, leaves: Sequence[Any]) -> None:
        """The flat order of the weights, which is not the one in which they run: which gradients are for this GPU's
        part. What is no layer's and not ``ahead`` of them comes after them."""
        inside = {i for start, end, _ in self.spans for i in range(start, end)}
        first = self.spans[0][0] if self.spans else 0
        before, behind = list[Any](), list[Any]()
        for i, leaf in enumerate(leaves):
            if i not in inside:
                ahead = i < first if self.ahead is None else leaf.name in self.ahead
                (before if ahead else behind).append(leaf)
        at = self.in_a_row(before, 1, 0)
        for start, end, times in self.spans:
            at = self.in_a_row(leaves[start:end], times, at)
        self.in_a_row(behind, 1, at)

    def in_a_row(self, leaves: Sequence[Any], times: int, at: int) -> int:
        """Where the leaves of so many equal layers lie, from ``at`` on; where they end."""
        one = sum(int(value_of(leaf.n)) for leaf in leaves)
        end = at + times * one
        for leaf in leaves:
            self.offsets[id(leaf)], self.times[id(leaf)] = at, (times, one)
            at += int(value_of(leaf.n))
        return end

    def before_backward(self) -> None:
        self.t.on_grad = self.arrived

    def enter_layer(self, key: int, again: bool) -> None:
        pass

    def leave_layer(self, key: int) -> None:
        pass

    def arrived(self, leaf: Any) -> None:
        """A gradient: into the bucket, which is reduced first where it would overflow."""
        if self.stage == 0:
            return
        n, bucket = int(value_of(leaf.n)) * self.times[id(leaf)][0], self.rules.bucket
        if not self.buckets:
            self.open_buckets()
        at = next((i for i in reversed(range(len(self.standing))) if self.standing[i].n == leaf.n), None)
        if at is not None:
            del self.standing[at]
        if self.filled + n > bucket:
            self.reduce()
        if n <= bucket:
            leaf.held = None
        self.filled += n
        self.waiting.append(leaf)

    def reduce(self) -> None:
        """Reduce the bucket; what belongs to several GPUs is flattened into a copy."""
        if not self.waiting:
            return
        part = max(1, int(value_of(self.part)))  # of adapters that train nothing: trainable_tokens without tokens
        first = self.offsets[id(self.waiting[-1])] // part
        times, apart = self.times[id(self.waiting[0])]
        last = (self.offsets[id(self.waiting[0])] + (times - 1) * apart + int(value_of(self.waiting[0].n)) - 1) // part
        copy = self.take(self.filled, HALF, "gradients of several GPUs, flattened") if first != last else None
        del copy
        if self.kept is None and first <= self.rank <= last and self.offload == "none":
            self.kept = self.take(self.own.elements, HALF, "gradients of this GPU's part")
        for leaf in self.waiting:
            overlap = self.overlap_of(leaf, part)
            if self.offload != "none":
                norm = self.take(overlap, DOUBLE, "its norm in double")
                del norm
            if self.stage == 2 or overlap or int(value_of(leaf.n)) <= self.rules.bucket:
                leaf.held = None
            else:  # too large for a bucket and not of this part: stage 1 keeps it until the pass is over
                self.whole.append(leaf)
        self.waiting, self.filled = [], 0

    def overlap_of(self, leaf: Any, part: int) -> int:
        """Elements of a gradient that are of this GPU's part: the most of the equal layers that it stands for."""
        n, begin = int(value_of(leaf.n)), self.rank * part
        times, apart = self.times[id(leaf)]
        starts = (self.offsets[id(leaf)] + i * apart for i in range(times))
        return max(0, *(min(begin + part, at + n) - max(begin, at) for at in starts))

    def after_backward(self) -> None:
        self.t.on_grad = None
        self.reduce()
        self.buckets = []
        self.standing = []  # of weights that got no gradient
        for leaf in self.whole:
            leaf.held = None
        if self.accumulates and self.stage == 2:
            self.kept = None  # added to those of the micro-batches before

    def step_bytes(self) -> Any:
        """The most that an optimizer step takes beyond what stands before it."""
        if self.offload != "none":
            return 0
        if self.stage == 0:  # fp32 copies of the gradients, then one flat buffer of them
            return 2 * F32 * self.part * self.over
        # a norm of each gradient in double; then one flat gradient, in its own width and in fp32
        flat = (HALF if self.own.tensors > 1 else 0) + F32
        return maximum(flat * self.part, DOUBLE * self.own.largest)


class Partitioned(Engine):
    """Stage 3: weights come and go as the coordinator says."""

    def __init__(self, *args: Any, arch: Architecture, again: bool, adapter: Any) -> None:
        super().__init__(*args)
        self.arch, self.again, self.adapter = arch, again, adapter
        self.sub_group, self.largest = 0, 0  # elements that are stepped at once, and of the largest weight that trains
        self.small: Any = 0  # bytes of the weights that are never partitioned
        self.t.bare = True  # runtime/zero/linear.py: LinearFunctionForZeroStage3
        self.gathered: Tensor | None = None
        modules, self.forward, self.backward, last = self.traced()
        self.counts = modules
        self.last = last

    def traced(self) -> tuple[list[int], list[int], list[int], int]:
        arch, sizes, added = self.arch, dict[str, int](), dict[str, list[tuple[str, int]]]()
        for t in self.adapter.tensors if self.adapter is not None else ():
            added.setdefault(t.module, []).append((t.name, int(value_of(prod(t.shape)))))
        inside = {w.name for layer in arch.layers for w in layer.weights()}
        unseen = {w.name for tower in arch.towers for w in tower.weights()}  # towers are not run
        outer = [w for w in arch.weights() if w.name not in inside | unseen]
        cut = next((i for i, w in enumerate(arch.weights()) if w.name in inside), len(outer))
        tables, after = modules_of(outer[:cut], "", sizes), modules_of(outer[cut:], "", sizes)
        angles = [list[str]()] if any(a.position == "rope" for a in arch.attentions) else []
        before = [[], [], *tables, *angles]  # the class and its model come first
        layers, i, saved = [], 0, set[str]()
        for layer in arch.layers:
            weights = [Weight(w.name, w.shape) for w in layer.weights()]
            stacked = () if self.again else [w.name for w in weights if len(w.shape) == STACKED]
            acts = layer.mlp.linears[0].name if isinstance(layer.mlp, MLP) else ""
            for _ in range(int(value_of(layer.times))):
                layers.append(modules_of(weights, f"{i}.", sizes, acts, added))
                saved.update(f"{i}.{name}" for name in stacked)
                i += 1
        if arch.tied and arch.has_head:
            after = [*after, tables[0]]
        back = before
        if self.adapter is not None:  # frozen tables have no backward pass; embedded tokens are made to (checkpointing)
            back = tables[:1] if self.again else []
        steps, forward, backward = trace(before, layers, after, back, self.again)
        last = forward[-1] + len(layers[-1]) + len(after) - 1 if layers else 0
        host = int(value_of(self.over)) if self.offload == "all" else 0
        return available(steps, sizes, self.rules, host=host, saved=saved, turn=last + 1), forward, backward, last

    def hold(self, n: int) -> None:
        """Change what lies gathered."""
        if self.gathered is not None and int(value_of(self.gathered.n)) == n:
            return
        self.gathered = None
        self.gathered = self.take(n, HALF, "gathered weights") if n else None

    def most(self, begins: list[int], key: int, ends: int) -> int:
        return max(self.counts[begins[key] : ends])

    def before_forward(self) -> None:
        self.hold(max(self.counts[: self.forward[0]], default=0))

    def before_layer(self, key: int, layer: Layer, leaves: int) -> None:
        ends = self.forward[key + 1] if key + 1 < len(self.forward) else self.last
        self.hold(self.most(self.forward, key, ends))

    def after_layer(self, key: int, leaves: Sequence[Any]) -> None:
        if key + 1 == len(self.forward):
            self.hold(self.counts[self.last])

    def enter_layer(self, key: int, again: bool) -> None:
        ends = self.backward[key - 1] if key else len(self.counts)
        self.hold(self.most(self.backward, key, ends))

    def reduce(self) -> None:
        """Interleave the gradients into one buffer, unless there is one alone, and scatter it. A part that leaves for
        the host is on the GPU once more, and in double, for its norm (stage3.py, partition_grads)."""
        if len(self.waiting) > 1:
            copy = self.take(self.filled, HALF, "gradients, interleaved")
            del copy
        for leaf in self.waiting:
            if self.offload != "none":
                part = ceil_div(int(value_of(leaf.n)), self.over)
                own = self.take(part, HALF, "part of a gradient")
                norm = self.take(minimum(part, NORM), DOUBLE, "its norm in double")
                del own, norm
            leaf.held = None
        self.waiting, self.filled = [], 0

    def arrived(self, leaf: Any) -> None:
        self.buckets = self.buckets or [Tensor(0, HALF, None)]  # stands since the start
        super().arrived(leaf)

    def after_backward(self) -> None:
        self.t.on_grad = None
        self.reduce()
        self.gathered = None

    def step_bytes(self) -> Any:
        """The same. The weights that are never partitioned are given up for the step, and gathered again at its end
        (stage3.py, step and _post_step)."""
        if self.offload != "none":
            return 0
        most = maximum((HALF + F32) * self.sub_group, DOUBLE * ceil_div(self.largest, self.over))
        return maximum(most - self.small, 0)


def wrapper(
    tape: Tape, arch: Architecture, load: Any, trained: Sequence[Trained], base: dict[tuple[str, str], Any]
) -> Engine:
    """What the step reports to; ``base``, in place: what stands on rank 0 before it."""
    rules = settings(load.buckets, int(value_of(arch.hidden)))
    n = sum(t.times * t.n for t in trained)
    own = own_part(arch, load, trained, ceil_div(n, load.gpus)) if load.stage in (1, 2) else Own()
    prepare(arch, load, trained, base, rules, own)
    given = (tape, load.stage, load.gpus, rules, n, load.kept_gradients, load.host, load.overlap, load.last, own)
    if load.stage == 3:
        cut = Partitioned(*given, arch=arch, again=load.checkpointing == "full", adapter=load.adapter)
        cut.sub_group = largest_sub_group(arch, load, trained)
        cut.largest = max((int(value_of(t.n)) for t in trained), default=0)
        cut.small = base[KEPT]
        return cut
    made = Engine(*given)
    if load.adapter is None:
        made.ahead = frozenset(w.name for x in (*arch.embeddings, *arch.encoder_embeddings) for w in x.weights())
    if load.stage == 1 and load.kept_gradients:
        made.sizes = [t.n for t in in_order(arch, trained, load.adapter is None)]
    return made
