"""Where the simulated step finds an adapter: which linear layers carry one, and which of the model's weights train.

LoRA and DoRA are simulated in estimator.stack.nn, a method with a ``forward`` by what that says. Another (Poly,
bottlenecks, prompts inside the attention), and a target that is no linear layer, is one product with its trained
numbers beside each target; where no target is linear, beside the linear layers that stand for them, named below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Linear, StateSpace
from estimator.inventory import CONV1D, LINEAR
from estimator.ops import ceil_div
from estimator.peft.arguments import SAVED
from estimator.peft.base import TRAINED, Adapter, Module
from estimator.stack.adapted import AdapterTensor, Forward, run
from estimator.stack.around import Around
from estimator.stack.around import run as run_around
from estimator.stack.machine import F32, LoraSpec, Machine
from estimator.stack.products import MULTIPLY_ADD
from estimator.stack.prompt import Prompt, table
from estimator.stack.tape import Tensor
from estimator.trace import value_of

TOKENS = "trainable_tokens_delta"
FACTORS = {"lora_A.weight": "lora_B.weight", "lora_embedding_A": "lora_embedding_B"}


def specs(
    adapter: Adapter, arch: Architecture, width: int = F32, moved: bool = False
) -> tuple[dict[str, LoraSpec], set[str]]:
    """(adapted linear layers, names of the model's own weights that train or whose copies do); ``moved``: what peft
    leaves on the CPU was moved to the card."""
    found: dict[str, LoraSpec] = {}
    ranked: dict[str, list[tuple[Any, LoraSpec]]] = {}
    dropout = adapter.args["lora_dropout"] or 0
    if not isinstance(dropout, int | float):
        raise InputError(f"lora_dropout must be a number, got {str(dropout)[:40]}")
    dropped = dropout > 0
    unfrozen = {f"{t.module}.{t.name}" if t.module else t.name for t in adapter.unfrozen} | copied(adapter)
    dora = {t.module for t in adapter.tensors if t.name == "lora_magnitude_vector"}
    targets = {m.name for m in adapter.targets}
    sizes = {(t.module, t.name, t.layers): t.elements // t.times for t in adapter.tensors}
    for t in adapter.tensors:
        if t.name in FACTORS and adapter.method.forward is None:
            a, b = sizes[t.module, t.name, t.layers], sizes.get((t.module, FACTORS[t.name], t.layers), 0)
            spec = LoraSpec(
                t.shape[0], t.module in dora, width, size_a=a, size_b=b, dropout=dropped,
                parameter=t.module not in targets, layers=t.layers,
            )
            ranked.setdefault(t.module, []).append((value_of(spec.rank), spec))
    if ranked:
        return {name: of_layers(specs) for name, specs in ranked.items()}, unfrozen
    weights = arch.weights()
    linear = {w.module for w in weights if w.role in (LINEAR, CONV1D)}
    if adapter.method.layer is not None:
        return found, unfrozen
    if adapter.method.around is not None:
        return around(adapter, adapter.method.around, linear, width), unfrozen
    if adapter.method.forward is not None:
        found = own_forward(adapter, adapter.method.forward, linear, width, moved)
    work = {m.name: work_of(adapter, m) for m in adapter.targets}
    trained, found_own = [t for t in adapter.tensors if t.state == TRAINED], set(found)
    for t in trained:
        if t.name == TOKENS or t.module not in targets or t.module in found_own:
            continue
        if t.module in linear and not value_of(t.elements):
            continue
        if t.module in linear:
            before = found[t.module].other if t.module in found else 0
            found[t.module] = LoraSpec(0, width=width, other=before + t.elements // t.times, work=work[t.module])
        else:  # a copy of a norm or of the token table, whole: it trains in the place of the original
            unfrozen |= {w.name for w in weights if w.module == t.module}
    trains = any(w.name in unfrozen for w in weights) or bool(token_rows(adapter, width))
    if not found and not trains and not adapter.virtual_tokens and any(value_of(t.elements) for t in trained):
        found = beside(adapter, arch, sorted(linear & targets), width)
    return found, unfrozen


def token_rows(adapter: Adapter, width: int) -> dict[str, tuple[Any, int]]:
    """The tables of which an adapter trains rows: how many numbers, of how many bytes."""
    return {t.module: (t.elements, width) for t in adapter.tensors if t.name == TOKENS and t.state == TRAINED}


def copied(adapter: Adapter) -> set[str]:
    """Names of the weights of which ``modules_to_save`` trains a copy."""
    return {
        f"{t.module}.{t.name.removeprefix(SAVED)}"
        for t in adapter.tensors if t.name.startswith(SAVED) and t.state == TRAINED
    }  # fmt: skip


def own_forward(
    adapter: Adapter, forward: Forward, linear: set[str], width: int, moved: bool
) -> dict[str, LoraSpec]:
    """The linear layers that run what the method states, each with its tensors and those that all share."""
    found: dict[str, list[tuple[Any, LoraSpec]]] = {}
    for m in adapter.targets:
        for layers in dict.fromkeys(t.layers for t in adapter.tensors if t.module == m.name) or (None,):
            if layers is not None and not {*layers} <= {*m.indices}:
                continue
            own = tensors_of(adapter, m, layers, moved)
            if m.name in linear and any(value_of(h.n) for h in own.values() if h.trains):
                whole = partial(run, forward, adapter.args, own, work_of(adapter, m), width)
                spec = LoraSpec(0, width=width, forward=whole, layers=layers)
                size = sum(value_of(h.n) for h in own.values())
                found.setdefault(m.name, []).append(((size, repr([h.shape for h in own.values()])), spec))
    return {name: of_layers(specs) for name, specs in found.items()}


def tensors_of(adapter: Adapter, m: Module, layers: Any, moved: bool) -> dict[str, AdapterTensor]:
    """What one module holds in these layers, and what it shares with others, by name."""
    held_by = {m.name: m for m in adapter.targets}
    own: dict[str, AdapterTensor] = {}
    for t in adapter.tensors:
        alike = t.common and (held_by[t.module].d_in, held_by[t.module].d_out) == (m.d_in, m.d_out)
        if (t.module == m.name and t.layers in (None, layers)) or not t.module or alike:
            n, module = prod(t.shape, start=1), t.module.replace("{i}", "*") if t.common else t.module
            if t.name not in own or own[t.name].n < n:
                own[t.name] = AdapterTensor(module, t.shape, n, t.format, t.state == TRAINED, t.host and not moved)
    return own


def of_layers(specs: list[tuple[Any, LoraSpec]]) -> LoraSpec:
    """One module's adapters, those of the same size (the first of each pair) as one: the largest, with the others."""
    sizes: dict[Any, list[LoraSpec]] = {}
    for size, spec in specs:
        sizes.setdefault(size, []).append(spec)
    if len(sizes) == 1:
        return replace(specs[-1][1], layers=None)
    each = [
        replace(x[-1], layers=tuple(i for spec in x for i in spec.layers or ()))
        for _, x in sorted(sizes.items(), key=lambda pair: pair[0], reverse=True)
    ]
    return replace(each[0], also=tuple(each[1:]))


def around(adapter: Adapter, forward: Around, linear: set[str], width: int) -> dict[str, LoraSpec]:
    """The attentions that run what the method states, each with its tensors. InputError for a linear layer."""
    held: dict[str, dict[str, AdapterTensor]] = {}
    for t in adapter.tensors:
        if t.name.startswith(SAVED):
            continue
        if t.module in linear:
            name = t.module.rpartition(".")[2]
            raise InputError(f"--targets {name}: {adapter.method.title} stands around an attention, not a linear layer")
        own = AdapterTensor(t.module, t.shape, t.elements // t.times, t.format, t.state == TRAINED)
        held.setdefault(t.module, {})[t.name] = own
    return {
        name: LoraSpec(0, width=width, forward=partial(run_around, forward, adapter.args, own))
        for name, own in held.items()
    }


def hooked(m: Machine, adapter: Adapter, arch: Architecture, width: int) -> None:
    """What a method's model runs before and behind the layers, and around them."""
    method = adapter.method
    if method.ahead is not None:
        m.ahead = partial(method.ahead, adapter)
    if method.after is not None:
        m.after = partial(method.after, adapter)
    if method.layer is not None:
        held = {t.name: t for t in adapter.tensors if t.module and not t.name.startswith(SAVED)}
        m.layered = (next(iter(held.values())).module, partial(method.layer, adapter, held, width))


def frozen_tokens(adapter: Adapter) -> Any:
    """Virtual tokens of a prefix that stay as they are."""
    return next((t.shape[0] for t in adapter.tensors if t.name == "frozen_embedding"), 0)


def encode(adapter: Adapter, arch: Architecture, m: Machine) -> Tensor:
    """What makes an adapter's virtual tokens, run: those of all sequences."""
    held = {t.name: AdapterTensor("", t.shape, t.elements, t.format, t.state == TRAINED) for t in adapter.tensors}
    return (adapter.method.encode or table)(Prompt(m, adapter.args, held, adapter.virtual_tokens, arch.hidden))


def work_of(adapter: Adapter, m: Module) -> tuple[tuple[Any, Any, Any], ...]:
    """What a method states of one module, as products (rows, k, n): of every token, and of a pass whatever its size."""
    if adapter.method.work is None:
        return ()
    work = adapter.method.work(m, adapter.args)
    each, once = work.flops // MULTIPLY_ADD, work.fixed // MULTIPLY_ADD
    return (*(((None, each, 1),) if each else ()), *(((once, 1, 1),) if once else ()))


def beside(adapter: Adapter, arch: Architecture, targets: list[str], width: int) -> dict[str, LoraSpec]:
    """The trained numbers dealt evenly to the targets, or, without linear targets, to the branches' last products."""
    inside = {t.module for t in adapter.tensors if t.state == TRAINED}
    names = targets or [x.name for x in outputs(arch, inside)]
    times = {w.module: w.times for w in arch.weights()}
    places = sum((times[n] for n in names), 0)
    each = ceil_div(adapter.added_trained, places) if names else 0
    work = dict.fromkeys(names, bottleneck(adapter))
    if targets:
        work = {x.name: work_of(adapter, x) for x in adapter.targets}
    return {n: LoraSpec(0, width=width, other=each, work=work[n]) for n in names}


def bottleneck(adapter: Adapter) -> tuple[tuple[Any, Any, Any], ...]:
    """Down and up, where that is what a method adds."""
    shapes = {t.name: t.shape for t in adapter.tensors}
    if "down.weight" not in shapes:
        return ()
    m, d = shapes["down.weight"]
    return (None, d, m), (None, m, d)


def outputs(arch: Architecture, inside: set[str]) -> Iterator[Linear]:
    """The last linear layer of each kind of layer's attention or state-space mixer, and of its MLP.

    ``inside``: the modules that hold the adapter; where they are attentions, or stand behind MLPs, only those.
    """
    attentions = any(x.out.name.rpartition(".")[0] in inside for x in arch.attentions)
    for layer in arch.layers:
        mixer = layer.mixer
        if inside == {"adapter_mlp"}:
            pass
        elif isinstance(mixer, Attention):
            yield mixer.out
        elif isinstance(mixer, StateSpace) and mixer.linears:
            yield mixer.linears[-1]
        if isinstance(layer.mlp, MLP) and not attentions:
            yield layer.mlp.linears[-1]
