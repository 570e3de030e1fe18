"""From a workload to the simulated run: the layers as segments, and the machine's settings."""

from __future__ import annotations

from functools import partial
from typing import Any

from estimator.families.base import Architecture, Attention, together
from estimator.moments.workload import Workload
from estimator.parallel.coordinator import settings
from estimator.peft.simulated import copied, encode, frozen_tokens, hooked, specs, token_rows
from estimator.stack.machine import LoraSpec, Machine
from estimator.stack.model import Segment
from estimator.stack.packed import INT8, is_packed
from estimator.stack.tape import F32, Tape
from estimator.trace import value_of

PARALLEL_LOSS = "parallel"  # loss_parallel(): each tensor-parallel GPU keeps the logits of its words


def split_layers(arch: Architecture, load: Workload, m: Machine | None = None) -> list[Segment]:
    """The stack as segments: the first layer by itself, since what comes before it is no layer.

    ``m``: the run, where an adapter may reach only some of the layers.
    """
    out = _by_kind(arch, load, m)
    if arch.facts.get("stores"):
        out = _storing(_in_turn(out) if ordered(arch, load) else out)
    if load.sharder == "deepspeed" and load.stage:
        if folds(arch, load):  # the first gradient makes the buckets
            return [_part(s, n) for s in out for n in _ends(s.times, False, True)]
        # what is gathered or reduced differs from layer to layer
        return [_part(s, 1) for s in out for _ in range(int(value_of(s.times)))]
    if load.stage >= 2 and load.gpus != 1:  # what is gathered lives into the next layer, which may be of another kind
        return [
            _part(s, n) for i, s in enumerate(out)
            for n in _ends(s.times, not _alike(out, i - 1, i), not _alike(out, i, i + 1))
        ]  # fmt: skip
    if m is not None and m.hands_on:  # the last layer of a stage gets its gradient from another GPU
        out[-1:] = [_part(out[-1], n) for n in _ends(out[-1].times, False, True)]
    return out


def ordered(arch: Architecture, load: Workload) -> bool:
    """Whether layers run in the model's order, each kind as often as it comes: later ones reuse the keys and values of
    some, and checkpointing runs them again."""
    return bool(arch.facts.get("stores")) and load.checkpointing == "full"


def folds(arch: Architecture, load: Workload) -> bool:
    """Whether equal layers are one under DeepSpeed too: an adapter's gradients fill no bucket before the pass ends, and
    nothing is gathered (stages 0 to 2)."""
    if load.stage == 3 or load.adapter is None or load.kept_gradients:
        return False
    return bool(value_of(load.adapter.trained) <= settings(load.buckets, int(value_of(arch.hidden))).bucket)


def _part(s: Segment, times: Any, stores: bool = False) -> Segment:
    return Segment(s.layer, times, s.trains, s.without, stores)


def _in_turn(segments: list[Segment]) -> list[Segment]:
    """Equal layers that follow each other, in the model's order; as they are where that is not known."""
    kinds: dict[int, Segment] = {}
    for s in segments:
        if s.layer.indices is None or s.trains is not None or s.without or type(s.times) is not int:
            return segments
        kinds |= dict.fromkeys(s.layer.indices, s)
    out: list[Segment] = []
    for i in sorted(kinds):
        if len(out) > 1 and out[-1].layer is kinds[i].layer:  # the first layer stays by itself
            out[-1].times += 1
        else:
            out.append(_part(kinds[i], 1))
    return out


def _storing(segments: list[Segment]) -> list[Segment]:
    """The last layer of each window that makes keys and values apart, which later ones reuse; of those the last apart
    too, which makes the first gradient of them."""
    kinds = [(a.window, a.reuses) if isinstance(a := s.layer.mixer, Attention) else (0, True) for s in segments]
    last = {kind: i for i, kind in enumerate(kinds)}
    out: list[Segment] = []
    for i, (s, kind) in enumerate(zip(segments, kinds, strict=True)):
        if last[kind] == i:
            out += [_part(s, s.times - 1)] if s.times != 1 else []
            out.append(_part(s, 1, not kind[1]))
        else:
            out.append(s)
    return out


def _alike(segments: list[Segment], i: int, j: int) -> bool:
    """Whether two neighbours are there and of one kind of layer."""
    return i >= 0 and j < len(segments) and segments[i].layer is segments[j].layer


def _ends(times: Any, first: bool, last: bool) -> list[Any]:
    """``times`` layers with the first of them, and the last, apart."""
    n = int(value_of(times))
    ahead = int(first and n > 1)
    behind = int(last and n - ahead > 1)
    return [1] * ahead + [times - ahead - behind] + [1] * behind


def _by_kind(arch: Architecture, load: Workload, m: Machine | None) -> list[Segment]:
    arch = arch._replace(layers=together(arch.layers))
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
                times = times - 1
            ahead = layer.ahead is not None or (m is not None and m.ahead is not None)
            shared = layer.shared or ahead or arch.kind == "encoder-decoder"
            if times > 1 and shared:  # what all layers share gets its first gradient from the last of them
                out.append(Segment(layer, times - 1, flag))
                times = 1
            if times > 0:
                out.append(Segment(layer, times, flag))
    if top is not None:
        out.sort(key=lambda s: s.trains is True)
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
    m.parallel_loss = load.loss == PARALLEL_LOSS
    m.loss, m.selective = "full" if m.parallel_loss else load.loss, load.checkpointing == "selective"
    m.tensor, m.sequence, m.tied, m.context = load.tensor, load.sequence, arch.tied, load.context
    m.standing = load.kept_gradients and (load.stage < 2 or load.gpus == 1)  # FSDP2 keeps shards of them
    m.kernels, m.card, m.release = load.kernels, load.card, load.release
    m.scored, m.hold_outputs, m.drops = load.scored, load.hold_outputs, load.drops
    m.masked = load.masked
    m.widens = load.widens and load.amp
    m.blocks = m.blocks or load.packing or (load.release.makes_masks and not load.masked)
    tape.fp16, tape.card = load.half == "fp16", load.card
    tape.single = load.b == 1
    if load.kbit:
        m.w = F32
    if load.adapter is not None and load.adapter.virtual_tokens and load.adapter.method.prefix:
        m.prefix, m.prefix_frozen = load.adapter.virtual_tokens, frozen_tokens(load.adapter)
        m.kv, m.blocks = m.kv + m.prefix, True
    elif load.adapter is not None and load.adapter.virtual_tokens:
        m.prompted, m.encode = load.adapter.virtual_tokens, partial(encode, load.adapter, arch)
        m.enc_tokens = m.enc_tokens + m.prompted
        m.both_prompted = load.adapter.method.both
        if arch.kind != "encoder-decoder" or m.both_prompted:
            m.s, m.kv = m.s + m.prompted, m.kv + m.prompted
    m.inputs_want_grad = load.training and load.adapter is not None and load.top is None
    if load.adapter is not None:
        adapted, unfrozen = specs(load.adapter, arch, load.adapter_width, load.moved)
        m.copied = copied(load.adapter)
        m.unmet = set(adapted)
        m.token_rows = token_rows(load.adapter, load.adapter_width)

        def meet(name: str) -> LoraSpec | None:
            m.unmet.discard(name)
            spec = None if name in m.segment_without else adapted.get(name)
            if spec is None or not spec.also:
                return spec
            return next((x for k, x in enumerate((spec, *spec.also)) if (name, k) not in m.segment_without), None)

        m.adapters = meet
        m.varied = {name: spec for name, spec in adapted.items() if spec.also}
        m.trains = (
            (lambda name: m.segment_trains is not False and name in unfrozen)
            if load.top is not None
            else unfrozen.__contains__
        )
        if load.training and arch.kind == "decoder":
            hooked(m, load.adapter, arch, load.adapter_width)
    if not load.training:
        m.trains = lambda name: False
    if load.quantization:
        packed = {w.module for w in arch.weights() if is_packed(w, load)}
        kind = INT8 if load.quantization == INT8 else "nested" if load.quantization.endswith("-dq") else "plain"
        m.packed = lambda name: kind if name in packed else ""
    return m
