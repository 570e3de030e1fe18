"""The moments of one GPU of a pipeline: one micro-batch through each of its parts is simulated, and the schedule adds
up how many of them are under way.

What torch.distributed.pipelining holds beside a plain step (2.11, stage.py): a buffer for the input of every
micro-batch and one for the gradient of every output, all through the run; each stage's output until its backward pass;
with GPipe and 1F1B the last gradient that was sent, until the next one is; the logits while they are differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from estimator.families.base import Architecture
from estimator.moments.outcome import Live, Moment, Outcome, phase
from estimator.moments.passes import backward_pass, forward_pass, training_machine
from estimator.moments.repeated import run_key
from estimator.moments.standing import standing, trained_tensors
from estimator.moments.workload import Workload
from estimator.ops import exact_div
from estimator.optimizers import copy_bytes, find_optimizer, held_bytes
from estimator.parallel.batches import (
    ASKED,
    GATHERED,
    GRADIENTS,
    SHARDED,
    WHOLE,
    Between,
    reduce,
    shard_bytes,
    whole_bytes,
)
from estimator.parallel.sharded import prepare
from estimator.parallel.staged import FORWARD, LOOPED, ONE, Pipe, adapter_of_part
from estimator.records import dataclass
from estimator.same import Alike
from estimator.stack.replay import Replay, settle
from estimator.stack.tape import HALF, I64, Leaf, Param, Tape
from estimator.trace import value_of


@dataclass(frozen=True, slots=True)
class OnePass:
    """What one micro-batch costs in one part: ``forward`` and ``backward`` at their peaks, what it ``keeps`` between;
    bytes of autocast's ``copies`` of weights, where they are made."""

    forward: Moment
    keeps: Live
    backward: Moment
    copies: Any = 0


@dataclass(frozen=True, slots=True)
class Ends:
    """Whether a part gets its input from another GPU, hands its output on, whether gradients stand already, how FSDP2's
    weights lie as each pass begins, and autocast's copies of weights (all micro-batches are in one context).

    named: the schedule still names the logits of the micro-batch before, whose backward pass is over
    """

    receives: bool
    hands_on: bool
    standing: bool
    before: tuple[str, str] = (WHOLE, WHOLE)
    cached: bool = True
    named: bool = False


def one_pass(part: Architecture, load: Workload, ends: Ends) -> OnePass:
    """A micro-batch's forward and backward pass through one part, over nothing."""
    key = run_key(part, load)
    return _one_pass(part, load, ends) if key is None else _remembered(Alike((part, load, ends), (key, ends)))


@lru_cache(maxsize=64)
def _remembered(run: Alike[tuple[Architecture, Workload, Ends]]) -> OnePass:
    return _one_pass(*run.it)


def _one_pass(part: Architecture, load: Workload, ends: Ends) -> OnePass:
    whole = load
    if gathers(load) and load.amp:  # a mixed precision policy in place of autocast
        load = replace(load, width=HALF, amp=False, adapter_width=HALF)
    tape = Tape(True, load.amp)
    tape.cached = load.amp and ends.cached
    run = replace(load, gpus=1, stage=0, kept_gradients=ends.standing and load is whole, hold_outputs=True)
    m = training_machine(part, run, tape, find_optimizer(load.optimizer))
    stream, width = m.stream * part.hidden, load.width
    wrap = m.wrap = Between(tape, part, whole, ends.standing, ends.before) if gathers(load) else None
    m.hands_on = ends.hands_on
    if ends.receives:
        m.received = tape.alloc(stream, width, "received input")
        m.received.node = Leaf(Param(stream, width))
    given = tape.alloc(stream, width, "received gradient") if ends.hands_on else None
    tape.log.clear()  # both are buffers of the stage
    if ends.named:
        m.before.append(tape.alloc(m.rows * part.vocab, HALF if run.amp else width, "logits of the micro-batch before"))
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
    own = whole
    if load.gpus != 1:
        own = prepare(arch, replace(load, kept_gradients=False), whole, base)
        base["optimizer", "states"] = held_bytes(optimizer, own)
    loaded = {k: v for k, v in base.items() if k[0] not in ("optimizer", "cuBLAS")}
    held = base | buffers(arch, plain, load.pipe)
    grads = [sum((t.times * copy_bytes(t) for t in trained_tensors(x, r)), 0) for x, r in zip(parts, runs, strict=True)]

    def one(i: int, stands: bool, before: tuple[str, str], cached: bool = True) -> OnePass:
        named = pipe.schedule == ONE and pipe.last(i) and stands
        return one_pass(parts[i], runs[i], Ends(not pipe.first(i), not pipe.last(i), stands, before, cached, named))

    if load.amp and not gathers(load):
        copies = sum((one(i, False, (WHOLE, WHOLE), False).copies for i in range(len(parts))), 0)
        held["autocast", "bf16 copies of weights"] = copies
    sent = stream_bytes(arch, load) if pipe.rank and pipe.schedule != LOOPED else 0
    weights = [whole_bytes(x, r) if gathers(load) else 0 for x, r in zip(parts, runs, strict=True)]
    kept = load.stage == 2 or not gathers(load)
    fold = Fold(held, one, grads, sent, weights, WHOLE if kept else ASKED if pipe.schedule == LOOPED else SHARDED, kept)
    passes = [0] * len(parts)
    for kind, i in pipe.order():
        fold.forward(i) if kind == FORWARD else fold.backward(i)
        passes[i] += 1
        if gathers(load) and passes[i] == 2 * value_of(pipe.micro):
            fold.reduce(i, reduced(parts[i], runs[i]), shard_bytes(parts[i], runs[i]))
    graded = sum((t.times * copy_bytes(t) for t in (own if gathers(load) else whole)), 0)
    left = base | {k: v for k, v in held.items() if k[0] == "pipeline"} | {("gradients", "all"): graded}
    temporary, end = optimizer.step(own), sum(left.values())
    moments = [
        Moment("moments.load_bytes", "Load", sum(loaded.values()), sum(loaded.values()), loaded),
        fold.moment("moments.forward_bytes", "Forward and loss", fold.most[0]),
        fold.moment("moments.backward_bytes", "Backward", fold.most[1]),
        Moment("moments.step_bytes", "Optimizer step", value_of(end) + value_of(temporary), value_of(end),
               left | {("optimizer", "temporaries"): temporary}),
    ]  # fmt: skip
    return Outcome(moments, base["model", "weights"], base.get(("optimizer", "states"), 0), 0, whole, base)


def gathers(load: Workload) -> bool:
    """Whether FSDP2 gathers the weights."""
    return load.stage >= 2 and load.gpus != 1


def reduced(part: Architecture, load: Workload) -> Moment:
    """When all micro-batches are through a part: its units are reduced, over its gathered weights and its gradients."""
    tape = Tape()
    fsdp = reduce(tape, part, load)
    settle(tape.log, 0, tape.carried)
    found = phase("", "", tape.log, 0, Replay(), {})
    found.buffers()
    del fsdp
    return found


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


COPY = ("autocast", "bf16 copy of a weight")


class Fold:
    """How many micro-batches are between their passes in each part, and the most bytes of either pass.

    base: what stands; passes: of a part, whether its gradients stand and how its weights lie; grads: bytes of each
    part's; sent: of the last gradient that was sent on; weights: of each part's gathered weights under FSDP2, lies: how
    they lie at first; kept: a forward pass leaves them gathered
    """

    def __init__(self, base: Live, passes: Callable[[int, bool, tuple[str, str]], OnePass], grads: list[Any], sent: Any,
                 weights: list[Any], lies: str, kept: bool) -> None:  # fmt: skip
        self.base, self.grads, self.sent = base, grads, sent
        self.passes = cache(passes)
        self.under = [0] * len(grads)
        self.stands = [False] * len(grads)
        self.weights, self.lies, self.kept = weights, [lies] * len(grads), kept
        self.shards: list[Any] = [0] * len(grads)  # of gradients that were reduced
        self.begun = False
        self.most: list[Any] = [None, None]
        self.level = value_of(sum(base.values())) + (lies != SHARDED) * value_of(sum(weights))
        self.keeps = [value_of(sum(self.kept_of(i).values())) for i in range(len(grads))]

    def kept_of(self, i: int) -> Live:
        """What a micro-batch keeps between its passes through part ``i``."""
        return self.passes(i, False, (WHOLE, WHOLE) if self.kept else (SHARDED, SHARDED)).keeps

    def forward(self, i: int) -> None:
        """A forward pass through part ``i``."""
        before = (self.lies[i], WHOLE if self.kept else SHARDED)
        self.note(0, self.passes(i, self.stands[i], before).forward, i, 0)
        self.under[i] += 1
        self.level += self.keeps[i]
        if not self.kept:
            self.lie(i, SHARDED)

    def backward(self, i: int) -> None:
        """A backward pass: its gradients stand from now on, and one is sent on."""
        self.level -= self.keeps[i]
        before = (WHOLE if self.kept else SHARDED, self.lies[i])
        self.note(1, self.passes(i, self.stands[i], before).backward, i, 1)
        self.under[i] -= 1
        self.level += 0 if self.stands[i] else value_of(self.grads[i])
        self.level += 0 if self.begun else value_of(self.sent)
        self.stands[i] = self.begun = True
        self.lie(i, WHOLE)

    def reduce(self, i: int, moment: Moment, shards: Any) -> None:
        """The gradients of part ``i``, as whole as its weights, become ``shards``."""
        self.note(1, moment, i, 0)
        self.lie(i, SHARDED)
        self.level += value_of(shards) - value_of(self.grads[i])
        self.shards[i], self.stands[i] = shards, False

    def lie(self, i: int, how: str) -> None:
        """Part ``i``'s weights are gathered or given back."""
        self.level += ((how != SHARDED) - (self.lies[i] != SHARDED)) * value_of(self.weights[i])
        self.lies[i] = how

    def note(self, which: int, moment: Moment, i: int, own: int) -> None:
        """Keep the moment if it is the largest of its kind; ``own``: micro-batches of part ``i`` that it counts."""
        total = self.level + value_of(moment.peak)
        if self.most[which] is None or total > self.most[which][0]:
            under = [n - own * (j == i) for j, n in enumerate(self.under)]
            whole = [x != SHARDED for x in self.lies]
            self.most[which] = total, moment, under, list(self.stands), self.begun, whole, list(self.shards)

    def moment(self, key: str, label: str, most: Any) -> Moment:
        """The phase's peak with its holders."""
        total, top, under, stands, begun, whole, shards = most
        live = dict(self.base)
        kept: Any = 0
        for j, n in enumerate(under):
            if n:
                kept = kept + n * sum(self.kept_of(j).values())
        more = {
            ("micro-batches under way", "activations of the others"): kept,
            GRADIENTS: sum((g for g, s in zip(self.grads, stands, strict=True) if s), 0),
            GATHERED: sum((w for w, s in zip(self.weights, whole, strict=True) if s), 0),
            ("FSDP", "gradients, sharded"): sum(shards),
            ("pipeline", "gradient sent last"): self.sent if begun else 0,
        }
        live |= {k: v for k, v in more.items() if value_of(v)}
        for k, v in top.buffers().items():
            live[k] = live.get(k, 0) + v
        return Moment(key, label, total, total, live)


__all__ = ["staged"]
