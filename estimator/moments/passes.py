"""One forward and one backward pass on the tape, as every simulated training step runs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.moments.run import machine, split_layers
from estimator.moments.workload import Workload
from estimator.optimizers import Optimizer, Trained
from estimator.stack.engine import backward
from estimator.stack.machine import Machine
from estimator.stack.model import Forward
from estimator.stack.offload import INPUTS, Inputs, Offload
from estimator.stack.program import forward
from estimator.stack.replay import settle
from estimator.stack.tape import Tape, Tensor
from estimator.trace import value_of


def at_once(load: Workload, optimizer: Optimizer) -> bool:
    """Whether each gradient is stepped and dropped in the backward pass."""
    return load.in_backward or optimizer.in_backward


def training_machine(arch: Architecture, run: Workload, tape: Tape, optimizer: Optimizer) -> Machine:
    """The machine of a training step, and the tape as its checkpointing and offloading want it."""
    tape.stops = not run.reentrant
    if run.offload:
        tape.keeper = Inputs(tape) if run.offload == INPUTS else Offload(tape)
    m = machine(arch, run, tape)
    if at_once(run, optimizer):
        m.update = lambda n, width: optimizer.step([Trained((n,), width)])
    return m


def forward_pass(m: Machine, arch: Architecture, load: Workload, wrap: Any = None) -> Forward:
    """The forward pass and the loss; a reference scores the batch before or after it. wrap: what shards the run."""
    if load.reference and load.scored_first:
        scored_by_reference(arch, load, m.t, wrap)
    if wrap is not None:
        wrap.before_forward()
    before = m.t.alloc(m.rows * arch.vocab, m.w, "logits of the step before") if load.names_on else None
    out = forward(m, arch, split_layers(arch, load, m), load.checkpointing == "full")
    del before
    if wrap is not None:
        wrap.after_forward(m.leaves)
    if load.reference and not load.scored_first:
        scored_by_reference(arch, load, m.t, wrap)
    return out


def scored_by_reference(arch: Architecture, load: Workload, tape: Tape, wrap: Any) -> None:
    """The frozen model scores the batch (trl trainer/dpo_trainer.py, _compute_loss, and grpo_trainer.py): no gradients.

    Its weights want some, so that autocast caches their copies; those below an adapter do not.
    """
    wrap = None if wrap is None else wrap.once_more(arch)
    frozen = replace(load, adapter=None)
    tape.grad, m = False, machine(arch, frozen, tape)
    m.trains = lambda name: load.reference == "model"
    m.wrap = wrap
    if wrap is not None:
        wrap.before_forward()
    forward(m, arch, split_layers(arch, frozen), False)
    if wrap is not None:
        wrap.after_forward(m.leaves)
    tape.grad = True


def backward_pass(
    tape: Tape, out: Forward, load: Workload, wrap: Any = None, given: Tensor | None = None
) -> Tensor:
    """The backward pass; the loss, which a loop names until the step is over. InputError where nothing trains.

    given: the gradient of what a pipeline's stage handed on, which is no loss
    """
    end = len(tape.log)
    loss, out.loss = out.loss, None
    if not load.hold_outputs:
        out.held = []
    assert loss is not None
    if loss.node is None:
        name = load.adapter.method.name if load.adapter is not None else "full"
        if load.adapter is not None and value_of(load.adapter.trained):
            raise InputError(f"--method {name}: it trains a tower alone, which is not simulated; name other --targets")
        raise InputError(f"--method {name}: nothing trains; it adds no weights to this model and frees none")
    backward(tape, loss, out.bounds, wrap, given)
    if not load.names_on:
        out.held = []
    settle(tape.log, end, tape.carried)
    return loss
