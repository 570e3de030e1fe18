"""The moments of a training step and of generation: what the allocator has handed out at each, and to whom.

A run is simulated by :mod:`estimator.stack`; a phase's figure is the most that is handed out during it. Before a
step starts the model, the optimizer's states and the cuBLAS workspaces are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.inventory import CONV1D, EMBEDDING, HEAD, LINEAR, POSITION, TOKEN_TYPE, Weight
from estimator.optimizers import Optimizer, Trained, copy_bytes, find_optimizer, held_bytes
from estimator.peft.base import BASE, INDEX, TRAINED, TUNER, Adapter, PeftTensor
from estimator.peft.simulated import specs
from estimator.stack import compiled
from estimator.stack.attention import grow_cache
from estimator.stack.dropout import NO_DROPOUT, Dropout
from estimator.stack.engine import backward
from estimator.stack.kernels import HOPPER, GpuKernels
from estimator.stack.liger_models import TORCH, Replaced
from estimator.stack.machine import LoraSpec, Machine
from estimator.stack.model import Forward, Segment
from estimator.stack.offload import Offload
from estimator.stack.packed import is_packed, packed_bytes
from estimator.stack.program import forward
from estimator.stack.releases import PRESENT, Release
from estimator.stack.replay import Replay, alive, settle
from estimator.stack.tape import F32, HALF, I64, Tape, block_bytes, small_block
from estimator.trace import value_of

# the main thread and the one of backward passes; a process that has only generated holds one workspace less
THREADS = 2
TABLES = (EMBEDDING, POSITION, TOKEN_TYPE)  # torch.nn.Embedding
Live = dict[tuple[str, str], Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is run.

    b, s, new    sequences, tokens each, tokens generated after them
    width        bytes of a parameter; amp: autocast over fp32 parameters
    quantization "", "nf4", "fp4" or one of them with "-dq"; unpacked: weights that it leaves alone beside
                 embeddings, norms and head; adapter: a PEFT method; top: train only that many layers
    stored       bytes of all weights where they lie in a format whose kernels are not simulated, else None
    half         the 16-bit format of products: bf16 or fp16
    adapter_width bytes of an adapter's number; kbit: prepare_model_for_kbit_training was called
    kept_gradients the gradients of the micro-batch before stand during the pass (accumulation, set_to_none=False)
    hold_outputs the loop names the model's outputs, and so the logits, until the backward pass is over
    kernels      what Liger replaces; drops: where the model drops
    scored       the share of the tokens that the loss is taken on; reference: "" none, "model" a frozen copy stands
    packing      the batch is one row with a mask of blocks; offload: activations go to the host
    reentrant    checkpointing as use_reentrant=True does it; compiled: torch.compile around the model
    in_backward  each gradient is stepped and dropped as soon as it is there
    wide_embeddings 8-bit states of embeddings stay in 32 bits, as the Trainer has it
    card         which kernels the GPU runs and how large its cuBLAS workspaces are, one for each of ``threads``
    release      of transformers; masked: the loop passes an attention_mask
    gpus, stage  data-parallel GPUs and ZeRO's stage on them: DDP, ZeroRedundancyOptimizer, FSDP2 without and with
                 resharding, or DeepSpeed's
    sharder      "torch" or "deepspeed"; buckets: DeepSpeed's sizes, "default" or transformers' "auto"
    host         what lies in host memory: "none", the "optimizer"'s states, or "all" weights too
    replicas     copies of the model, each on ``gpus`` GPUs (HSDP)
    """

    b: Any
    s: Any
    new: Any = 8
    width: int = HALF
    amp: bool = False
    training: bool = True
    optimizer: str = "adamw"
    fused: bool = True
    checkpointing: str = "none"
    quantization: str = ""
    logits: str = "last"
    loss: str = "full"
    adapter: Adapter | None = None
    top: Any = None
    gpus: Any = 1
    stage: int = 0
    stored: Any = None
    half: str = "bf16"
    adapter_width: int = F32
    kbit: bool = False
    kept_gradients: bool = False
    hold_outputs: bool = False
    kernels: Replaced = TORCH
    drops: Dropout = NO_DROPOUT
    scored: Fraction = Fraction(1)
    reference: str = ""
    packing: bool = False
    offload: bool = False
    reentrant: bool = False
    in_backward: bool = False
    compiled: bool = False
    wide_embeddings: bool = False
    threads: int = THREADS
    card: GpuKernels = HOPPER
    release: Release = PRESENT
    masked: bool = False
    unpacked: frozenset[str] = frozenset()
    sharder: str = "torch"
    buckets: str = "default"
    host: str = "none"
    replicas: int = 1


@dataclass(slots=True)
class Moment:
    """One phase: the most bytes at once, the bytes at its end, and who holds them at the peak."""

    key: str
    label: str
    peak: Any
    end: Any
    live: Live | Callable[[], Live] = field(default_factory=dict)

    def buffers(self) -> Live:
        """Who holds the peak."""
        return self.live() if callable(self.live) else self.live

    def total(self, traced: bool) -> Any:
        """The peak; in a run that derives, as the sum of its buffers."""
        return sum(self.buffers().values()) if traced else self.peak


@dataclass(slots=True)
class Outcome:
    """All moments of a run, with what stands still: weights, adapters, states, gradients, cache."""

    moments: list[Moment]
    weights: Any
    states: Any = 0
    gradients: Any = 0
    trained: list[Trained] = field(default_factory=list)
    base: Live = field(default_factory=dict)
    unmet: tuple[str, ...] = ()  # adapted modules whose operations no part of the step runs

    @property
    def worst(self) -> Moment:
        return max(self.moments, key=lambda m: value_of(m.peak))

    def __getitem__(self, key: str) -> Moment:
        return next(m for m in self.moments if m.key == key)


def held_weights(arch: Architecture) -> list[Weight]:
    """The weights as the stack holds them: transformers 5 ties the output matrix of every T5."""
    return [w for w in arch.weights() if not (arch.always_tied and w.role == HEAD)]


def weight_tensors(arch: Architecture, load: Workload) -> list[tuple[Weight, list[Any]]]:
    """Every weight with the bytes of the tensors that hold it."""
    out = []
    for w in held_weights(arch):
        if is_packed(w, load):
            out.append((w, packed_bytes(w.elements, load.quantization)))
        else:
            out.append((w, [w.elements * (F32 if load.kbit else load.width)]))
    return out


def trained_tensors(arch: Architecture, load: Workload) -> list[Trained]:
    """What the optimizer is given."""
    if load.adapter is None:
        return [
            Trained(w.shape, load.width, w.times, w.role in (LINEAR, CONV1D), load.wide_embeddings and w.role in TABLES)
            for w in held_weights(arch)
        ]
    adapter = load.adapter
    own = [Trained(t.shape, number_bytes(t, load), t.times) for t in adapter.tensors if t.state == TRAINED]
    return own + [Trained(t.shape, load.width, t.times) for t in adapter.unfrozen]


def split_layers(arch: Architecture, load: Workload, m: Machine | None = None) -> list[Segment]:
    """The stack as segments: the first layer by itself, since what comes before it is no layer.

    ``m``: the run, where an adapter may reach only some of the layers.
    """
    if m is not None and load.training and load.adapter is not None and load.top is None:
        from estimator.peft.reach import by_reach

        found = by_reach(arch, load.adapter, m)
        if found is not None:
            return found
    out: list[Segment] = []
    top = load.top
    seen: set[str] = set()
    for layer in arch.layers:
        frozen, trains = layer.times, 0
        if top is not None and (layer.side == "decoder" or arch.kind != "encoder-decoder"):
            trains = top if layer.indices is None else sum(1 for i in layer.indices if i >= arch.num_layers - top)
            frozen = layer.times - trains
            parts: list[tuple[Any, bool | None]] = [(frozen, False), (trains, True)]
        else:
            parts = [(frozen, None if top is None else False)]
        for times, flag in parts:
            if times <= 0:
                continue
            if layer.side not in seen:
                seen.add(layer.side)
                out.append(Segment(layer, 1, flag))
                times = times - 1
            if flag is True and frozen > 0:  # the lowest trained layer: its input wants no gradient
                out.append(Segment(layer, 1, flag))
                times, frozen = times - 1, 0
            shared = layer.shared or arch.kind == "encoder-decoder"
            if times > 1 and shared:  # what all layers share gets its first gradient from the last of them
                out.append(Segment(layer, times - 1, flag))
                times = 1
            if times > 0:
                out.append(Segment(layer, times, flag))
    if top is not None:
        out.sort(key=lambda s: s.trains is True)
    if load.sharder == "deepspeed":  # what is gathered or reduced differs from layer to layer
        out = [Segment(x.layer, 1, x.trains) for x in out for _ in range(int(value_of(x.times)))]
    elif load.stage >= 2 and load.gpus != 1 and out[-1].times > 1:
        # FSDP2's backward pass starts with the last layer, before which nothing was reduced
        out[-1:] = [
            Segment(out[-1].layer, out[-1].times - 1, out[-1].trains),
            Segment(out[-1].layer, 1, out[-1].trains),
        ]
    return out


def alternating(segments: list[Segment]) -> list[Segment]:
    """One layer of each kind first: a step of generation peaks while few layers have let go of longer views."""
    ones: list[Segment] = []
    rest: list[Segment] = []
    for s in segments:
        if all(s.layer is not x.layer for x in ones):
            ones.append(Segment(s.layer, 1, s.trains))
            if s.times != 1:
                rest.append(Segment(s.layer, s.times - 1, s.trains))
        else:
            rest.append(s)
    return ones + rest


def machine(arch: Architecture, load: Workload, tape: Tape) -> Machine:
    """The simulated run's settings."""
    m = Machine(tape, load.b, load.s, load.s, load.width, load.fused and all(a.sdpa for a in arch.attentions))
    m.enc_tokens = load.s if arch.encoder_tokens is None else arch.encoder_tokens
    m.training = load.training
    m.logits = "all" if load.training else load.logits
    m.loss, m.selective = load.loss, load.checkpointing == "selective"
    m.standing = load.kept_gradients and (load.stage < 2 or load.gpus == 1)  # FSDP2 keeps shards of them
    m.kernels, m.card, m.release = load.kernels, load.card, load.release
    m.scored, m.hold_outputs, m.drops = load.scored, load.hold_outputs, load.drops
    m.blocks = m.blocks or load.packing or (load.release.makes_masks and not load.masked)
    tape.fp16 = load.half == "fp16"
    if load.kbit:
        m.w = F32
    if load.adapter is not None and load.adapter.virtual_tokens and load.adapter.method.prefix:
        m.prefix = load.adapter.virtual_tokens
        m.kv, m.blocks = m.kv + m.prefix, True
    elif load.adapter is not None and load.adapter.virtual_tokens:
        m.prompted = load.adapter.virtual_tokens
        m.s, m.kv, m.enc_tokens = m.s + m.prompted, m.kv + m.prompted, m.enc_tokens + m.prompted
    m.inputs_want_grad = load.training and load.adapter is not None and load.top is None
    if load.adapter is not None:
        adapted, unfrozen = specs(load.adapter, arch, load.adapter_width)
        m.unmet = set(adapted)

        def meet(name: str) -> LoraSpec | None:
            m.unmet.discard(name)
            return None if name in m.segment_without else adapted.get(name)

        m.adapters = meet
        m.trains = (
            (lambda name: m.segment_trains is not False and name in unfrozen)
            if load.top is not None
            else unfrozen.__contains__
        )
    if not load.training:
        m.trains = lambda name: False
    if load.quantization:
        packed = {w.module for w in arch.weights() if is_packed(w, load)}
        kind = "nested" if load.quantization.endswith("-dq") else "plain"
        m.packed = lambda name: kind if name in packed else ""
    return m


def number_bytes(t: PeftTensor, load: Workload) -> int:
    """Bytes of a number of what an adapter adds."""
    return {TUNER: load.adapter_width, BASE: F32 if load.kbit else load.width, INDEX: I64}[t.format]


def standing(arch: Architecture, load: Workload, trained: list[Trained], optimizer: Optimizer | None) -> Live:
    """What is there before a step: model, adapters, states, workspaces."""
    live: Live = {}
    weights: Any = 0
    for w, parts in weight_tensors(arch, load):
        size = small_block if is_packed(w, load) else block_bytes  # packed in place of the 16-bit weight
        weights = weights + w.times * sum(size(p) for p in parts)
    live["model", "weights"] = weights if load.stored is None else load.stored
    buffers = buffer_bytes(arch, load)
    if buffers:
        live["model", "buffers"] = buffers
    if load.adapter is not None:
        added: Any = 0
        for t in load.adapter.tensors:
            n: Any = 1
            for x in t.shape:
                n = n * x
            added = added + t.times * block_bytes(n * number_bytes(t, load))
        live["adapters", "weights"] = added
    if load.reference == "model":
        live["reference model", "weights"] = live["model", "weights"]
    live["cuBLAS", "workspaces"] = load.threads * load.card.workspace
    if optimizer is not None:
        live["optimizer", "states"] = held_bytes(optimizer, trained)
    if load.kept_gradients:
        live["gradients", "standing"] = sum((p.times * copy_bytes(p) for p in trained), 0)
    return live


def buffer_bytes(arch: Architecture, load: Workload) -> Any:
    """Buffers that a model keeps beside its weights, where they are of any size: those that are stored with it, and the
    constants."""
    out: Any = sum((w.times * block_bytes(w.elements * load.width) for w in arch.buffers), 0)
    return out + sum(b.times * block_bytes(b.bytes) for b in arch.constants)


def _moment(key: str, label: str, log: list[Any], start: int, replay: Replay, base: Live) -> Moment:
    """Replay ``log[start:]`` and name what is alive at its peak."""
    replay.peak, replay.top = replay.level, (start, 0, 0)
    replay.run(log, start)
    top = replay.top

    def live() -> Live:
        return base | alive(log, top)

    return Moment(key, label, replay.peak, replay.level, live)


def training(arch: Architecture, load: Workload) -> Outcome:
    """One step in the steady state: forward, backward, optimizer."""
    optimizer = find_optimizer(load.optimizer)
    trained = trained_tensors(arch, load)
    base = standing(arch, load, trained, optimizer)
    tape = Tape(True, load.amp)
    run, wrap, own = sharded(arch, load, trained, base, optimizer, tape)
    tape.stops = not run.reentrant
    if run.offload:
        tape.keeper = Offload(tape)
    m = machine(arch, run, tape)
    at_once = load.in_backward or optimizer.in_backward
    if at_once:
        m.update = lambda n, width: optimizer.step([Trained((n,), width)])
    m.wrap = wrap
    ids = tape.alloc(m.rows, I64, "token ids")
    if wrap is not None:
        wrap.before_forward()
    out = forward(m, arch, split_layers(arch, load, m), load.checkpointing == "full")
    if wrap is not None:
        wrap.after_forward(m.leaves)
    start = sum(base.values())
    loaded = {k: v for k, v in base.items() if k not in later(load, base)}
    replay = Replay(value_of(start))
    log = tape.log
    moments = [Moment("moments.load_bytes", "Load", sum(loaded.values()), sum(loaded.values()), loaded)]
    moments.append(_moment("moments.forward_bytes", "Forward and loss", log, 0, replay, base))
    end = len(log)
    loss, out.loss = out.loss, None
    if not load.hold_outputs:
        out.held = []
    assert loss is not None
    if loss.node is None:
        name = load.adapter.method.name if load.adapter is not None else "full"
        raise InputError(f"--method {name}: nothing trains; it adds no weights to this model and frees none")
    backward(tape, loss, out.bounds, wrap)
    out.held = []
    settle(log, end)
    moments.append(_moment("moments.backward_bytes", "Backward", log, end, replay, base))
    temporary = 0 if at_once else step_bytes(load, wrap, optimizer, own)
    stop = len(log)

    def at_step() -> Live:
        return base | alive(log, (stop, 0, 0)) | {("optimizer", "temporaries"): temporary}

    level = replay.level
    if load.compiled and compiled.known(arch, load.loss, load.offload):
        moments[1:] = compiled_moments(arch, load, base, trained)
    moments.append(Moment("moments.step_bytes", "Optimizer step", level + value_of(temporary), level, at_step))
    del ids
    return Outcome(moments, base["model", "weights"], base.get(("optimizer", "states"), 0), 0, trained, base,
                   tuple(sorted(m.unmet)))  # fmt: skip


def compiled_moments(arch: Architecture, load: Workload, base: Live, trained: list[Trained]) -> list[Moment]:
    """Forward and backward of a compiled step: the backward pass peaks where it begins or where it ends."""
    tokens = load.b * load.s
    held = base | compiled.kept(arch, load, tokens)
    first = held | {("compiled graph", "gradients of the last layer"): compiled.transient(arch, load, tokens)}
    grads: Any = 0 if load.kept_gradients else sum((p.times * copy_bytes(p) for p in trained), 0)
    logits = ("loss", "buffers of the logits' size")
    last = base | {("gradients", "all"): grads, logits: held[logits],
                   ("embedding", "gradient of the table in fp32"): compiled.table(arch, load)}  # fmt: skip
    most = max((first, last), key=lambda live: value_of(sum(live.values())))
    end = sum(base.values()) + grads
    return [
        Moment("moments.forward_bytes", "Forward and loss", sum(held.values()), sum(held.values()), held),
        Moment("moments.backward_bytes", "Backward", sum(most.values()), end, most),
    ]


def later(load: Workload, base: Live) -> list[tuple[str, str]]:
    """What stands before a step and not yet when the model is loaded: states, gradients, a sharded run's workspaces."""
    out = [k for k in base if k[0] == "gradients" or k[1] == "gradients of this GPU's part"]
    if load.gpus != 1 or load.kept_gradients:
        out.append(("cuBLAS", "workspaces"))
    # DeepSpeed without sharding makes the states with a step of zeros
    return out if load.sharder == "deepspeed" and load.stage == 0 else [*out, ("optimizer", "states")]


def step_bytes(load: Workload, wrap: Any, optimizer: Optimizer, own: list[Trained]) -> Any:
    """Bytes that the optimizer's step takes for a moment."""
    if load.sharder == "deepspeed":
        return wrap.step_bytes()
    return optimizer.step(own) if load.host == "none" else 0


def sharded(
    arch: Architecture, load: Workload, trained: list[Trained], base: Live, optimizer: Optimizer, tape: Tape
) -> tuple[Workload, Any, list[Trained]]:
    """The run as one GPU sees it, what its step reports to, the tensors it updates; ``base``, in place: its share."""
    if load.sharder == "deepspeed":
        from estimator.parallel import zero_engine

        return load, zero_engine.wrapper(tape, arch, load, trained, base), trained
    if load.gpus == 1:
        return load, None, trained
    from estimator.parallel.sharded import prepare, wrapper

    own = prepare(arch, load, trained, base)
    if ("optimizer", "states") in base:
        base["optimizer", "states"] = held_bytes(optimizer, own) if load.host == "none" else 0
    # FSDP2's mixed precision gathers bf16 weights: there is nothing left for autocast to convert
    run = load
    if load.stage >= 2 and load.amp:
        run, tape.amp = replace(load, width=HALF, amp=False, adapter_width=HALF), False
    return run, wrapper(tape, arch, load), own


def inference(arch: Architecture, load: Workload) -> Outcome:
    """Prefill and the decode steps after it."""
    base = standing(arch, load, [], None)
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
    start = sum(base.values())
    replay = Replay(value_of(start))
    moments = [Moment("moments.load_bytes", "Load", start, start, base)]
    out: Forward | None = forward(m, arch, segments, False)
    label = "Forward" if m.cache is None else "Prefill"
    moments.append(_moment("moments.prefill_bytes", label, tape.log, 0, replay, base))
    done = len(tape.log)
    out = None
    if m.cache is None:
        del ids
        return Outcome(moments, base["model", "weights"], 0, 0, [], base)
    m.past, m.s, m.logits = load.s, 1, "all"
    replay.run(tape.log, done)
    first = len(tape.log)
    forward(m, arch, segments, False)
    decode = _moment("moments.decode_bytes", "Decode", tape.log, first, replay, base)
    if load.new > 1:  # the last step: caches have grown, but those of sliding windows are no longer views of all
        done = len(tape.log)
        m.past = load.s + load.new - 1
        grow_cache(m, m.past)
        replay.run(tape.log, done)
        first = len(tape.log)
        forward(m, arch, segments, False)
        last = _moment("moments.decode_bytes", "Decode", tape.log, first, replay, base)
        decode = last if last.peak > decode.peak else decode
    moments.append(decode)
    del ids, out
    return Outcome(moments, base["model", "weights"], 0, 0, [], base)
