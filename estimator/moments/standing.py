"""What is there before a step: model, adapters, states, workspaces, standing gradients."""

from __future__ import annotations

from math import prod
from typing import Any

from estimator.families.base import Architecture
from estimator.inventory import CONV1D, EMBEDDING, HEAD, LINEAR, NORM, POSITION, TOKEN_TYPE, Weight
from estimator.moments.outcome import Live
from estimator.moments.workload import Workload
from estimator.ops import maximum
from estimator.optimizers import Optimizer, Trained, copy_bytes, held_bytes
from estimator.peft.base import BASE, INDEX, TRAINED, TUNER, Adapter, PeftTensor
from estimator.stack.blocks import block_bytes, small_block
from estimator.stack.offload import INPUTS, LEAST_INPUT
from estimator.stack.packed import is_packed, packed_bytes
from estimator.stack.tape import F32, HALF, I64
from estimator.trace import value_of

TABLES = (EMBEDDING, POSITION, TOKEN_TYPE)  # torch.nn.Embedding


def held_weights(arch: Architecture) -> list[Weight]:
    """The weights as the stack holds them: transformers 5 ties the output matrix of every T5."""
    return [w for w in arch.weights() if not (arch.always_tied and w.role == HEAD)]


def weight_tensors(arch: Architecture, load: Workload) -> list[tuple[Weight, list[Any]]]:
    """Every weight with the bytes of the tensors that hold it."""
    out = []
    for w in held_weights(arch):
        if is_packed(w, load):
            out.append((w, packed_bytes(w.elements, load.quantization, w.shape[0])))
        else:
            out.append((w, [w.elements * (F32 if load.kbit else load.width)]))
    return out


def trained_tensors(arch: Architecture, load: Workload) -> list[Trained]:
    """What the optimizer steps: in a step without images a tower gets no gradients, and so it has no states."""
    if load.adapter is None:
        chosen = load.projected
        unseen = {w.name for tower in arch.towers for w in tower.weights()} if load.blind else set()
        held = [w for w in held_weights(arch) if w.name not in unseen]
        return [
            Trained(w.shape, load.width, w.times, w.role in (LINEAR, CONV1D) if chosen is None else w.name in chosen,
                    load.wide_embeddings and w.role in TABLES,
                    not (load.wide_embeddings and (w.is_bias or w.role == NORM)))
            for w in held
        ]  # fmt: skip
    adapter = load.adapter
    own = [
        Trained(t.shape, number_bytes(t, load), t.times - t.idle)
        for t in adapter.tensors if t.state == TRAINED and t.times != t.idle
    ]  # fmt: skip
    return own + [Trained(t.shape, load.width, t.times) for t in adapter.unfrozen]


def number_bytes(t: PeftTensor, load: Workload) -> int:
    """Bytes of a number of what an adapter adds."""
    return {TUNER: load.adapter_width, BASE: F32 if load.kbit else load.width, INDEX: I64}[t.format]


def added_tensors(adapter: Adapter, load: Workload) -> list[tuple[Any, Any]]:
    """(layers, bytes) of each tensor of an adapter that stands on the card, and of what stands with it."""
    there = [t for t in adapter.tensors if load.moved or not t.host]
    beside = [(t.times, t.around) for t in there if value_of(t.around)]
    return [(t.times, prod(t.shape) * number_bytes(t, load)) for t in there] + beside


def standing(arch: Architecture, load: Workload, trained: list[Trained], optimizer: Optimizer | None) -> Live:
    """What is there before a step: model, adapters, states, workspaces."""
    live: Live = {}
    weights: Any = 0
    away = frozenset() if load.adapter is None or not load.training else load.adapter.away
    for w, parts in weight_tensors(arch, load):
        if w.module in away and not w.is_bias:
            continue
        size = small_block if is_packed(w, load) else block_bytes  # packed in place of the 16-bit weight
        weights = weights + w.times * sum(size(p) for p in parts)
    live["model", "weights"] = weights if load.stored is None else load.stored
    buffers = buffer_bytes(arch, load)
    if buffers:
        live["model", "buffers"] = buffers
    if load.adapter is not None:
        added: Any = 0
        for times, n in added_tensors(load.adapter, load):
            added = added + times * block_bytes(n)
        live["adapters", "weights"] = added
    if load.reference == "model":
        live["reference model", "weights"] = live["model", "weights"]
    live["cuBLAS", "workspaces"] = load.threads * load.card.workspace
    if load.offload == INPUTS and (stream := load.b * load.s * arch.hidden * load.width) > LEAST_INPUT:
        live["checkpoints", "buffers to the host"] = 2 * stream
    if load.release.scratch and load.quantization:
        packed = [w.elements for w in arch.weights() if is_packed(w, load)]
        live["model", "buffer of an unpacked weight"] = block_bytes(maximum(*packed, 0) * HALF)
    if optimizer is not None:
        live["optimizer", "states"] = held_bytes(optimizer, trained)
    if load.kept_gradients:
        live["gradients", "standing"] = sum((p.times * copy_bytes(p) for p in trained), 0)
    return live


def buffer_bytes(arch: Architecture, load: Workload) -> Any:
    """Buffers that a model keeps beside its weights, where they are of any size: those that are stored with it, the
    constants, and a table of cos and sin."""
    rope = next((a.rope_dim for a in arch.attentions if a.position == "rope"), 0)
    positions = arch.max_positions or 0
    table: Any = block_bytes(positions * rope * F32) if load.release.table and load.training else 0
    out: Any = table + sum((w.times * block_bytes(w.elements * load.width) for w in arch.buffers), 0)
    return out + sum(b.times * block_bytes(b.bytes) for b in arch.constants)


def rotary_bytes(arch: Architecture) -> Any:
    """The frequencies of the rotary embedding (``inv_freq``, fp32), a table for each rotary width, of half that width.

    Measured beside the weights of llama-3.2-1b, llama-3.1-8b and qwen2.5-1.5b: one block of 512 bytes (transformers
    4.57.6, tests/accuracy/peers.json.gz). transformers 5 keeps a clone of it, one block more, which is not counted; nor
    are, in a training step, the tables and scalars of one block each, 2,048 bytes of a Llama's.
    """
    widths = {int(value_of(a.rope_dim)): a.rope_dim for a in arch.attentions if a.position == "rope" and a.rope_dim}
    return sum((block_bytes(F32 // 2 * width) for width in widths.values()), 0)


def later(load: Workload, base: Live) -> list[tuple[str, str]]:
    """What stands before a step and not yet when the model is loaded: states, gradients, a sharded run's workspaces,
    the weights that DeepSpeed gathers once."""
    made = ("gradients of this GPU's part", "weights that are never partitioned")
    out = [k for k in base if k[0] == "gradients" or k[1] in made]
    if load.gpus != 1 or load.tensor != 1 or load.experts != 1 or load.kept_gradients:
        out.append(("cuBLAS", "workspaces"))
    # DeepSpeed without sharding makes the states with a step of zeros
    return out if load.sharder == "deepspeed" and load.stage == 0 else [*out, ("optimizer", "states")]
