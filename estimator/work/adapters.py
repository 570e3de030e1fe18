"""From a fine-tuning method to what it trains: the bridge between :mod:`estimator.peft` and the list of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from estimator.families.base import MLP, Architecture, Attention
from estimator.models import Model
from estimator.peft.base import Adapter
from estimator.work.trainable import FULL, Chain, Factor, Trainable, everything, nothing

PREFIXES = ("prefix_tuning", "cartridge")  # virtual tokens in every layer's cache, not in the sequence
ROUTERS = (".gate", ".router")  # modules whose bare weight is one matrix, not a stack


def trainable(model: Model, adapter: Adapter | None) -> tuple[Trainable, tuple[str, ...]]:
    """(what is trained, notes) of an adapter; full training without one."""
    if adapter is None:
        return FULL, ()
    if adapter.method.name == "freeze":
        return frozen(model, adapter.args["trainable_layers"]), ()
    known = adapter.method.work is not None or adapter.virtual_tokens
    name = adapter.method.name
    notes = () if known else (f"{name}: the adapter's own products are not counted, only what it lets through",)
    return of_adapter(adapter, model.architecture), (*adapter.notes, *notes)


def frozen(model: Model, top: Any) -> Trainable:
    """The ``top`` last layers trained (of the decoder, where there are two stacks), everything else frozen."""
    arch = model.architecture
    groups = [g for g in arch.layers if g.side == "decoder" or arch.kind != "encoder-decoder"]
    total = sum((g.times for g in groups), start=0)
    names = {w.name for g in groups for w in g.weights()}
    return Trainable(lambda name: name in names, first=total - top)


def of_adapter(adapter: Any, arch: Architecture) -> Trainable:
    """The products of a peft adapter: LoRA's two factors as they are, other methods by the work that they state."""
    unfrozen = {f"{t.module}.{t.name}" for t in adapter.unfrozen}
    beside: dict[str, list[Chain]] = {}
    layers: dict[str, frozenset[int]] = {}
    rewritten: set[str] = set()
    by_module: dict[str, list[Any]] = {}
    for t in adapter.tensors:
        by_module.setdefault(t.module, []).append(t)
    seen = set()
    for module in adapter.targets:
        chain = _chain(adapter, module, by_module.get(module.name, ()))
        if chain:
            beside.setdefault(module.name, [])[:] = [chain]
        if module.layers is not None:
            layers[module.name] = layers.get(module.name, frozenset()) | frozenset(module.layers)
        seen.add(module.name)
    for name, tensors in by_module.items():
        if name not in seen and name:
            chain = _parameter(name, tensors)
            if chain:
                beside[name] = [chain]
                rewritten |= {name, f"{name}.weight"}
    if adapter.method.name == "adapter":
        beside |= _bottlenecks(adapter, arch)
    touched = {m.name for m in adapter.targets} | {t.module for t in adapter.tensors if t.state == "trained"}
    virtual = adapter.virtual_tokens
    prefix = adapter.method.name in PREFIXES
    return Trainable(
        (lambda name: name in unfrozen) if unfrozen else nothing,
        {k: tuple(v) for k, v in beside.items()}, layers, frozenset(rewritten),
        touched=frozenset(touched - set(beside) - {""}),
        inputs=bool(virtual) and not prefix, virtual=0 if prefix else virtual, prefix=virtual if prefix else 0,
    )  # fmt: skip


def _chain(adapter: Any, module: Any, tensors: Sequence[Any]) -> Chain:
    """The factors of one target, in the order in which its input passes through them."""
    factors = {t.name: t for t in tensors}
    a, b = factors.get("lora_A.weight"), factors.get("lora_B.weight")
    if adapter.method.name in ("lora", "dora", "qlora") and a is not None and b is not None and len(a.shape) == 2:
        r = a.shape[0]
        chain: Chain = (Factor(module.d_in, r, a.state == "trained"), Factor(r, module.d_out, b.state == "trained"))
        if "lora_magnitude_vector" in factors:  # the product B A on an identity, for the norm; without gradient
            chain += (Factor(module.d_in, r, False, rows=module.d_in), Factor(r, module.d_out, False, rows=module.d_in))
        return chain
    a, b = factors.get("lora_embedding_A"), factors.get("lora_embedding_B")
    if a is not None and b is not None:  # rows of A are looked up, then multiplied with B
        return (Factor(a.shape[0], module.d_out, b.state == "trained", left=a.state == "trained"),)
    if adapter.method.work is None:
        return ()
    work = adapter.method.work(module, adapter.args)
    token = (Factor(work.flops // 2, 1),) if work.flops else ()
    fixed = (Factor(1, 1, rows=work.fixed // 2, left=True),) if work.fixed else ()
    return (*token, *fixed)


def _bottlenecks(adapter: Any, arch: Architecture) -> dict[str, list[Chain]]:
    """Bottleneck adapters: down and up behind the last matrix of the attention and of the MLP."""
    down = [t for t in adapter.tensors if t.name == "down.weight"]
    places = {t.module for t in down}
    out: dict[str, list[Chain]] = {}
    for group in arch.layers:
        last = (
            [group.mixer.out.name] if isinstance(group.mixer, Attention) and next(iter(places)) != "adapter_mlp" else []
        )
        last += [group.mlp.linears[-1].name] if isinstance(group.mlp, MLP) else []
        m, d = down[0].shape
        out |= {name: [(Factor(d, m), Factor(m, d))] for name in last}
    return out


def _parameter(name: str, tensors: Sequence[Any]) -> Chain:
    """LoRA on a bare parameter: B A is multiplied out and added to the weight. Of a stack of experts this happens twice
    a pass: once without gradients when peft registers the parametrization (tuners/lora/layer.py, ParamWrapper)."""
    a = next((t for t in tensors if t.name == "lora_A.weight"), None)
    b = next((t for t in tensors if t.name == "lora_B.weight"), None)
    if a is None or b is None:
        return ()
    once = Factor(a.shape[0], a.shape[1], rows=b.shape[0], left=True)
    stacked = not name.endswith(ROUTERS)
    return (replace(once, left=False, right=False), once) if stacked else (once,)


__all__ = ["everything", "frozen", "of_adapter", "trainable"]
