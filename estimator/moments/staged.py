"""The moments of one GPU of a pipeline: one micro-batch through each of its parts is simulated, and the schedule adds
up how many of them are under way.

What torch.distributed.pipelining holds beside a plain step (2.11, stage.py): a buffer for the input of every
micro-batch and one for the gradient of every output, all through the run; each stage's output until its backward pass;
with GPipe and 1F1B the last gradient that was sent, until the next one is; the logits while they are differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from estimator.families.base import Architecture
from estimator.inventory import Weight
from estimator.moments.outcome import Live, Moment, Outcome, phase
from estimator.moments.passes import backward_pass, forward_pass, training_machine
from estimator.moments.repeated import run_key
from estimator.moments.standing import standing, trained_tensors
from estimator.moments.workload import Workload
from estimator.ops import exact_div
from estimator.optimizers import copy_bytes, find_optimizer, held_bytes
from estimator.parallel.sharded import cut, elements, prepare
from estimator.parallel.staged import FORWARD, LOOPED, Pipe, adapter_of_part
from estimator.records import dataclass
from estimator.same import Alike
from estimator.stack.blocks import block_bytes
from estimator.stack.replay import Replay
from estimator.stack.tape import F32, HALF, I64, Leaf, Param, Tape, Tensor
from estimator.trace import value_of


@dataclass(frozen=True, slots=True)
class OnePass:
    """What one micro-batch costs in one part: ``forward`` and ``backward`` at their peaks, what it ``keeps`` between;
    bytes of autocast's ``copies`` of weights, where they are made."""

    forward: Moment
    keeps: Live
    backward: Moment
    copies: Any = 0


class Accumulated:
    """fully_shard between micro-batches (set_requires_gradient_sync(False)): each unit's gradients are added to whole
    ones in the width in which they will be reduced, as the unit's backward pass ends.

    Source: torch/distributed/fsdp/_fully_shard/_fsdp_param.py, to_accumulated_grad_if_needed.
    """

    apart = False

    def __init__(self, tape: Tape, standing: bool) -> None:
        self.t, self.standing = tape, standing
        self.layers: dict[int, list[Leaf]] = {}
        self.sums: list[Tensor] = []
        self.mark = 0

    def before_forward(self) -> None:
        """The weights are gathered."""

    before_backward = before_forward

    def before_layer(self, key: int, layer: Any, leaves: int) -> None:
        self.mark = leaves

    def after_layer(self, key: int, leaves: list[Leaf]) -> None:
        self.layers[key] = leaves[self.mark :]

    def after_forward(self, leaves: list[Leaf]) -> None:
        inner = {id(x) for own in self.layers.values() for x in own}
        self.root = [x for x in leaves if id(x) not in inner]

    def enter_layer(self, key: int, again: bool) -> None:
        """Its weights are gathered too."""

    def leave_layer(self, key: int) -> None:
        self.add(self.layers[key])

    def after_backward(self) -> None:
        self.add(self.root)

    def add(self, leaves: list[Leaf]) -> None:
        for leaf in leaves:
            if not self.standing:
                self.sums.append(self.t.alloc(leaf.n, F32, "gradients, added up"))
            leaf.held = None


@dataclass(frozen=True, slots=True)
class Ends:
    """Whether a part gets its input from another GPU, hands its output on, whether gradients stand already, and
    autocast's copies of weights (all micro-batches are in one context)."""

    receives: bool
    hands_on: bool
    standing: bool
    cached: bool = True


def one_pass(part: Architecture, load: Workload, ends: Ends) -> OnePass:
    """A micro-batch's forward and backward pass through one part, over nothing."""
    key = run_key(part, load)
    return _one_pass(part, load, ends) if key is None else _remembered(Alike((part, load, ends), (key, ends)))


@lru_cache(maxsize=64)
def _remembered(run: Alike[tuple[Architecture, Workload, Ends]]) -> OnePass:
    return _one_pass(*run.it)


def _one_pass(part: Architecture, load: Workload, ends: Ends) -> OnePass:
    wide = load.gpus != 1 and load.stage >= 2 and load.amp  # a mixed precision policy in place of autocast
    if wide:
        load = replace(load, width=HALF, amp=False)
    tape = Tape(True, load.amp)
    tape.cached = load.amp and ends.cached
    run = replace(load, gpus=1, stage=0, kept_gradients=ends.standing and not wide, hold_outputs=True)
    m = training_machine(part, run, tape, find_optimizer(load.optimizer))
    stream, width = m.stream * part.hidden, load.width
    wrap = m.wrap = Accumulated(tape, ends.standing) if wide else None
    m.hands_on = ends.hands_on
    if ends.receives:
        m.received = tape.alloc(stream, width, "received input")
        m.received.node = Leaf(Param(stream, width))
    given = tape.alloc(stream, width, "received gradient") if ends.hands_on else None
    tape.log.clear()  # both are buffers of the stage
    out = forward_pass(m, part, run, wrap)
    replay = Replay()
    forward = phase("", "", tape.log, 0, replay, {})
    end = len(tape.log)
    keeps = phase("", "", tape.log, end, replay, {}).buffers()
    loss = backward_pass(tape, out, run, wrap, given)
    backward = phase("", "", tape.log, end, replay, {})
    for moment in (forward, backward):
        moment.buffers()
    del loss, given
    copies: Any = 0
    for times, what in tape.log if load.amp and not ends.cached else ():
        for sign, record in what if type(what) is list else ((times, what),):
            if sign == 1 and record[1] == COPY:
                copies = copies + (times if type(what) is list else 1) * record[0]
    return OnePass(forward, keeps, backward, copies)


def staged(arch: Architecture, load: Workload) -> Outcome:
    """A step of the GPU that ``load.pipe`` says; ``arch``: all that it holds."""
    pipe, optimizer = load.pipe, find_optimizer(load.optimizer)
    assert pipe is not None
    plain, parts = replace(load, pipe=None), [x.it for x in pipe.parts]
    runs = [plain] * len(parts)
    if load.adapter is not None:
        runs = [replace(plain, adapter=adapter_of_part(load.adapter, x)) for x in parts]
    whole = trained_tensors(arch, load)
    base = standing(arch, replace(load, kept_gradients=False), whole, optimizer)
    own, gathers = whole, load.gpus != 1 and load.stage >= 2
    if load.gpus != 1:
        own = prepare(arch, replace(load, kept_gradients=False), whole, base)
        base["optimizer", "states"] = held_bytes(optimizer, own)
    loaded = {k: v for k, v in base.items() if k[0] not in ("optimizer", "cuBLAS", "DDP")}
    held = base | buffers(arch, plain, load.pipe)
    grads = [sum((t.times * copy_bytes(t) for t in trained_tensors(x, r)), 0) for x, r in zip(parts, runs, strict=True)]
    if gathers:
        held[GATHERED] = whole_bytes(arch.weights(), load)

    def one(i: int, stands: bool, cached: bool = True) -> OnePass:
        return one_pass(parts[i], runs[i], Ends(not pipe.first(i), not pipe.last(i), stands, cached))

    if load.amp and not gathers:
        copies = sum((one(i, False, False).copies for i in range(len(parts))), 0)
        held["autocast", "bf16 copies of weights"] = copies
    sent = stream_bytes(arch, load) if pipe.rank and pipe.schedule != LOOPED else 0
    fold = Fold(held, one, grads, sent)
    for kind, i in pipe.order():
        fold.forward(i) if kind == FORWARD else fold.backward(i)
    backward = fold.moment("moments.backward_bytes", "Backward", fold.most[1])
    if gathers:
        backward = max(backward, reduced(arch, load, held, sum(grads)), key=lambda m: value_of(m.peak))
    graded = sum((t.times * copy_bytes(t) for t in own), 0)
    left = base | {k: v for k, v in held.items() if k[0] == "pipeline"} | {("gradients", "all"): graded}
    temporary, end = optimizer.step(own), sum(left.values())
    moments = [
        Moment("moments.load_bytes", "Load", sum(loaded.values()), sum(loaded.values()), loaded),
        fold.moment("moments.forward_bytes", "Forward and loss", fold.most[0]),
        backward,
        Moment("moments.step_bytes", "Optimizer step", value_of(end) + value_of(temporary), value_of(end),
               left | {("optimizer", "temporaries"): temporary}),
    ]  # fmt: skip
    return Outcome(moments, base["model", "weights"], base.get(("optimizer", "states"), 0), 0, whole, base)


def whole_bytes(weights: Iterable[Weight], load: Workload) -> Any:
    """Bytes of gathered weights."""
    width = HALF if load.amp else load.width
    return sum((w.times * block_bytes(w.elements * width) for w in weights), 0)


def reduced(arch: Architecture, load: Workload, held: Live, grads: Any) -> Moment:
    """When all micro-batches are through, the root unit's gradients are reduced first: its weights are given back, the
    gradients are copied into one buffer, and a shard of their sum comes out."""
    root = arch._replace(layers=()).weights()
    copied = sum((w.times * w.elements * load.width for w in root), 0)
    shards = sum((w.times * elements(cut(w.shape, load.gpus)) * load.width for w in root), 0)
    live = held | {
        GATHERED: held[GATHERED] - whole_bytes(root, load), ("gradients", "standing"): grads,
        ("FSDP", "reduce-scatter input"): copied, ("FSDP", "gradients, sharded"): shards,
    }  # fmt: skip
    total = sum(live.values())
    return Moment("moments.backward_bytes", "Backward", value_of(total), value_of(total), live)


def buffers(arch: Architecture, load: Workload, pipe: Pipe) -> Live:
    """What stages hold all through the run: a buffer for all that they receive, and the step's tokens."""
    parts, one = range(len(pipe.parts)), stream_bytes(arch, load)
    tokens = sum(pipe.first(i) + pipe.last(i) for i in parts)
    out: Live = {
        ("pipeline", "buffers for inputs"): sum(not pipe.first(i) for i in parts) * pipe.micro * one,
        ("pipeline", "buffers for gradients"): sum(not pipe.last(i) for i in parts) * pipe.micro * one,
        ("pipeline", "token ids"): tokens * pipe.micro * load.b * load.s * I64,
    }
    return {k: v for k, v in out.items() if value_of(v)}


def stream_bytes(arch: Architecture, load: Workload) -> Any:
    """Bytes of what a micro-batch hands from stage to stage."""
    n = load.b * load.s * arch.hidden
    n = exact_div(n, load.tensor) if load.sequence else n
    return n * (HALF if load.amp and load.gpus != 1 and load.stage >= 2 else load.width)


GATHERED = ("FSDP", "gathered weights")
COPY = ("autocast", "bf16 copy of a weight")


class Fold:
    """How many micro-batches are between their passes in each part, and the most bytes of either pass.

    base: what stands; passes: of a part, whether its gradients stand; grads: bytes of each part's; sent: of the last
    gradient that was sent on
    """

    def __init__(self, base: Live, passes: Callable[[int, bool], OnePass], grads: list[Any], sent: Any) -> None:
        self.base, self.grads, self.sent = base, grads, sent
        self.passes = cache(passes)
        self.under = [0] * len(grads)
        self.stands = [False] * len(grads)
        self.begun = False
        self.most: list[Any] = [None, None]
        self.level = value_of(sum(base.values()))
        self.keeps = [value_of(sum(self.passes(i, False).keeps.values())) for i in range(len(grads))]

    def forward(self, i: int) -> None:
        """A forward pass through part ``i``."""
        self.note(0, self.passes(i, self.stands[i]).forward, i, 0)
        self.under[i] += 1
        self.level += self.keeps[i]

    def backward(self, i: int) -> None:
        """A backward pass: its gradients stand from now on, and one is sent on."""
        self.level -= self.keeps[i]
        self.note(1, self.passes(i, self.stands[i]).backward, i, 1)
        self.under[i] -= 1
        self.level += 0 if self.stands[i] else value_of(self.grads[i])
        self.level += 0 if self.begun else value_of(self.sent)
        self.stands[i] = self.begun = True

    def note(self, which: int, moment: Moment, i: int, own: int) -> None:
        """Keep the moment if it is the largest of its kind; ``own``: micro-batches of part ``i`` that it counts."""
        total = self.level + value_of(moment.peak)
        if self.most[which] is None or total > self.most[which][0]:
            under = [n - own * (j == i) for j, n in enumerate(self.under)]
            self.most[which] = total, moment, under, list(self.stands), self.begun

    def moment(self, key: str, label: str, most: Any) -> Moment:
        """The phase's peak with its holders."""
        total, top, under, stands, begun = most
        live = dict(self.base)
        kept: Any = 0
        for j, n in enumerate(under):
            if n:
                kept = kept + n * sum(self.passes(j, False).keeps.values())
        more = {
            ("micro-batches under way", "activations of the others"): kept,
            ("gradients", "standing"): sum((g for g, s in zip(self.grads, stands, strict=True) if s), 0),
            ("pipeline", "gradient sent last"): self.sent if begun else 0,
        }
        live |= {k: v for k, v in more.items() if value_of(v)}
        for k, v in top.buffers().items():
            live[k] = live.get(k, 0) + v
        return Moment(key, label, total, total, live)


__all__ = ["staged"]
