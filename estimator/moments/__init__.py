"""The moments of a training step and of generation: what the allocator has handed out at each, and to whom.

A run is simulated by :mod:`estimator.stack`; a phase's figure is the most that is handed out during it. Before a
step starts the model, the optimizer's states and the cuBLAS workspaces are there.
"""

from __future__ import annotations

from dataclasses import replace

from estimator.families.base import Architecture
from estimator.moments.compiled import compiled_moments, described
from estimator.moments.outcome import Alive, Live, Moment, Outcome, phase
from estimator.moments.passes import at_once, backward_pass, forward_pass, training_machine
from estimator.moments.repeated import again
from estimator.moments.run import alternating, machine, split_layers
from estimator.moments.sharded import sharded, step_bytes
from estimator.moments.standing import later, rotary_bytes, standing, trained_tensors
from estimator.moments.workload import THREADS, Workload
from estimator.optimizers import find_optimizer
from estimator.stack.attention import grow_cache
from estimator.stack.machine import Machine
from estimator.stack.model import Forward
from estimator.stack.program import forward
from estimator.stack.replay import Replay
from estimator.stack.tape import F32, I64, Tape, Tensor
from estimator.trace import value_of


def training(arch: Architecture, load: Workload) -> Outcome:
    """One step in the steady state: forward, backward, optimizer."""
    if load.pipe is not None:
        from estimator.moments.staged import staged

        return staged(arch, load)
    return again(_training, arch, load)


def inference(arch: Architecture, load: Workload) -> Outcome:
    """Prefill and the decode steps after it."""
    return again(_inference, arch, load)


def _training(arch: Architecture, load: Workload) -> Outcome:
    optimizer = find_optimizer(load.optimizer)
    trained = trained_tensors(arch, load)
    base = standing(arch, load, trained, optimizer)
    tape = Tape(True, load.amp)
    run, wrap, own = sharded(arch, load, trained, base, optimizer, tape)
    m = training_machine(arch, run, tape, optimizer)
    m.wrap = wrap
    ids = tape.alloc(m.rows, I64, "token ids")
    out = forward_pass(m, arch, run, wrap)
    start = sum(base.values())
    loaded = {k: v for k, v in base.items() if k not in later(load, base)}
    replay = Replay(value_of(start))
    log = tape.log
    moments = [Moment("moments.load_bytes", "Load", sum(loaded.values()), sum(loaded.values()), loaded)]
    moments.append(phase("moments.forward_bytes", "Forward and loss", log, 0, replay, base))
    end = len(log)
    loss = backward_pass(tape, out, load, wrap)
    moments.append(phase("moments.backward_bytes", "Backward", log, end, replay, base))
    temporary = 0 if at_once(load, optimizer) else step_bytes(arch, load, wrap, optimizer, own)
    stop = len(log)
    at_step = Alive(base, log, (stop, 0, 0), {("optimizer", "temporaries"): temporary})
    level = replay.level
    if load.compiled and described(arch, load):
        moments[1:] = compiled_moments(arch, load, base, trained)
    moments.append(Moment("moments.step_bytes", "Optimizer step", level + value_of(temporary), level, at_step))
    del ids, loss
    return Outcome(moments, base["model", "weights"], base.get(("optimizer", "states"), 0), 0, trained, base,
                   tuple(sorted(m.unmet)), tape.seq)  # fmt: skip


def _inference(arch: Architecture, load: Workload) -> Outcome:
    base = standing(arch, load, [], None)
    rotary = rotary_bytes(arch)
    if rotary:
        base["model", "rotary frequencies"] = rotary
    tape = Tape(False, False)
    m = machine(arch, load, tape)
    if arch.kind == "encoder":
        load = replace(load, new=0)
    else:
        m.cache = {}
    ids = tape.alloc(load.b * load.s, I64, "token ids")
    segments = split_layers(arch, load)
    if len(arch.layers) > 1 and arch.kind == "decoder":
        segments = alternating(segments)
    first_tokens = load.s
    if load.generate and arch.prompts_encoder:
        first_tokens = m.s = m.kv = 1
    start = sum(base.values())
    replay = Replay(value_of(start))
    moments = [Moment("moments.load_bytes", "Load", start, start, base)]
    out: Forward | None = forward(m, arch, segments, False)
    label = "Forward" if m.cache is None else "Prefill"
    scores = next_logits(m, arch, load)
    moments.append(phase("moments.prefill_bytes", label, tape.log, 0, replay, base))
    done = len(tape.log)
    out = None
    if m.cache is None:
        del ids
        return Outcome(moments, base["model", "weights"], 0, 0, [], base)
    m.s, m.logits, m.copies_experts = 1, "all", load.copies_experts
    decoded: list[Moment] = []
    # the first step and the last: caches have grown, but those of sliding windows are no longer views of all
    for past in (first_tokens, first_tokens + load.new - 1)[: 2 if load.new > 1 else 1]:
        if decoded:
            done = len(tape.log)
            grow_cache(m, past)
        m.past, m.kv = past, past + 1
        replay.run(tape.log, done)
        first = len(tape.log)
        forward(m, arch, segments, False)
        scores = next_logits(m, arch, load)
        decoded.append(phase("moments.decode_bytes", "Decode", tape.log, first, replay, base))
    moments.append(max(decoded, key=lambda x: x.peak))
    del ids, out, scores
    return Outcome(moments, base["model", "weights"], 0, 0, [], base)


def next_logits(m: Machine, arch: Architecture, load: Workload) -> Tensor | None:
    """The last token's logits in fp32, which generate() copies out of those of the pass and names until it has the next
    (transformers generation/utils.py, _sample)."""
    if not load.generate or m.cache is None or not arch.has_head:
        return None
    n = m.b * arch.vocab
    logits = m.t.alloc(n * m.s if m.logits == "all" else n, m.w, "logits")
    copied = m.t.alloc(n, F32, "next token's logits in fp32")
    del logits
    return copied


__all__ = [
    "THREADS",
    "Live",
    "Moment",
    "Outcome",
    "Workload",
    "inference",
    "machine",
    "split_layers",
    "trained_tensors",
    "training",
]  # fmt: skip
