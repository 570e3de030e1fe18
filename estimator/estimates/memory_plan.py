"""Options of ``memory`` turned into a run to simulate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from estimator.dtypes import find_format
from estimator.errors import InputError, unknown
from estimator.estimates.memory_storage import (
    UNPACKED,
    WIDTHS,
    approximate,
    file_bytes,
    file_format,
    unsimulated,
    unused,
)
from estimator.families.base import Architecture, Attention
from estimator.formula import Citation
from estimator.formulas.params import total_params
from estimator.formulas.storage import ALIASES, stored_weights
from estimator.models import Model
from estimator.moments import Moment, Outcome, Workload, inference, trained_tensors, training
from estimator.optimizers import Trained, find_optimizer, state_bytes
from estimator.peft.base import Adapter
from estimator.recipes import find_recipe
from estimator.recipes.base import Recipe
from estimator.sizes import size_option
from estimator.trace import value_of

MODES = ("inference", "training")
DEFAULT_TOKENS = 2048
DEFAULT_NEW = 8
FULL = ("full", "none")
STAGE_NAMES = ("DDP", "DDP with ZeroRedundancyOptimizer", "FSDP2, weights kept after the forward pass", "FSDP2")
# their operations are simulated
SIMULATED_ADAPTERS = ("lora", "dora", "qlora", "ia3", "prompt_tuning", "freeze", "bitfit", "full")


@dataclass(slots=True)
class Plan:
    """One run: its workload, and what stands still."""

    model: Model
    arch: Architecture
    mode: str
    recipe: Recipe
    load: Workload
    title: str
    inputs: dict[str, Any]
    trainable: Any
    weights_bytes: Any
    gradients_bytes: Any
    optimizer_bytes: Any
    kv_cache_bytes: Any
    quantization: str = "none"
    method: str = "full"
    said: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    grid: Any = None  # a recipe that is an accounting, on many GPUs: estimator.estimates.memory_grid

    @property
    def traced(self) -> bool:
        return bool(self.model.kind == "symbolic" or (self.model.config and self.model.config.traced))


def plan(
    model: Model,
    mode: str,
    recipe: str | None = None,
    *,
    batch_size: Any = 1,
    seq_len: Any = None,
    new_tokens: Any = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    optimizer: str | None = None,
    attention: str = "sdpa",
    checkpointing: str = "none",
    quantization: str = "none",
    logits: str = "last",
    loss: str = "full",
    method: str | None = None,
    rank: Any = None,
    targets: str | None = None,
    args: Mapping[str, Any] | None = None,
    trainable_layers: Any = None,
    gpus: Any = None,
    stage: Any = None,
    **sharding: Any,
) -> Plan:
    """The run that these options describe. Raises InputError for options that do not exist or contradict each other."""
    arch = model.architecture
    said: list[str] = []
    for value, flag, options in (
        (attention, "--attention", ("eager", "sdpa")),
        (checkpointing, "--checkpointing", ("none", "selective", "full")),
        (logits, "--logits", ("last", "all")),
        (loss, "--loss", ("full", "chunked", "fused")),
    ):
        if value not in options:
            raise unknown(flag, value, options)
    b = size_option(model, batch_size, "--batch-size", "batch_size", "length")
    s = size_option(model, _tokens(arch, seq_len, said), "--seq-len", "seq_len", "length")
    new = size_option(model, DEFAULT_NEW if new_tokens is None else new_tokens, "--new-tokens", "new_tokens", "length")
    if mode == "inference" and new_tokens is None:
        said.append(f"--new-tokens not given: {DEFAULT_NEW} tokens are generated")
    train = mode == "training"
    said += unused(
        train, recipe=recipe, optimizer=optimizer, new_tokens=new_tokens, kv_dtype=kv_dtype,
        checkpointing=checkpointing, loss=loss, logits=logits,
    )  # fmt: skip
    adapter = _adapter(model, arch, method, rank, targets, args, trainable_layers)
    quantization = ALIASES.get(quantization.strip().lower(), quantization.strip().lower())
    if method == "qlora" and quantization in ("none", ""):
        quantization = "nf4-dq"
        said.append("--method qlora: the base is NF4 with double quantisation")
    chosen = _recipe(recipe, adapter, train, said)
    asked = find_format(dtype or file_format(model)).name
    width, amp = (chosen.width, chosen.amp) if train else (WIDTHS.get(asked, 2), False)
    if train and quantization not in ("none", "") and adapter is None:
        raise InputError(f"--quantization {quantization} needs an adapter to train: add --method lora")
    storage = stored_weights(arch, quantization, {4: "fp32", 2: "bf16"}[width] if train else asked)
    said += storage.notes
    stored = storage.bytes
    if not train and dtype is None and quantization in ("none", ""):
        stored = file_bytes(model, stored, said)
    load = Workload(
        b, s, new, width, amp, train, find_optimizer(optimizer or "adamw").name, attention == "sdpa", checkpointing,
        quantization if quantization in UNPACKED else "", logits, loss, adapter, _top(adapter, trainable_layers),
        *data_parallel(model, gpus, stage, train, chosen, adapter, quantization, said),
        unsimulated(stored, storage.bytes, "" if train else asked, quantization, said),
    )  # fmt: skip
    if adapter is not None and adapter.method.name not in SIMULATED_ADAPTERS:
        said.append(approximate(adapter))
    params = trained_tensors(arch, load)
    trainable = sum((p.times * p.n for p in params), 0)
    made = Plan(
        model, arch, mode, chosen, load, "", {}, trainable, stored,
        sum((p.times * p.n * p.width for p in params), 0) if train else 0,
        state_bytes(find_optimizer(load.optimizer), params) if train else 0, 0, quantization, method or "full", said,
        tuple(model.notes),
    )  # fmt: skip
    if load.gpus != 1:
        _sharded_states(made, params)
    if train:
        _paper_states(made, params)
        _grid(made, gpus, stage, sharding, batch_size, s)
    else:
        _refuse(sharding, "inference")
        own = {4: "fp32", 2: "bf16"}[width]
        made.kv_cache_bytes = _cache(arch, b, s + new, kv_dtype or own)
        if kv_dtype is not None and find_format(kv_dtype).bytes(1) != width:
            said.append(f"--kv-dtype {kv_dtype}: kv_cache_bytes only; the moments hold the dynamic cache in {own}")
    _describe(made, b, s)
    return made


def data_parallel(
    model: Model, gpus: Any, stage: Any, train: bool, recipe: Recipe, adapter: Adapter | None, quantization: str,
    said: list[str],
) -> tuple[Any, int]:  # fmt: skip
    """GPUs and ZeRO's stage on them."""
    if gpus is None and stage is None:
        return 1, 0
    from estimator.parallel.request import size, zero_stage

    n = size(1 if gpus is None else gpus, "--gpus", "gpus", model, bool(model.config and model.config.traced))
    at = zero_stage(0 if stage is None else stage)
    if stage is None and n != 1:
        said.append("--stage not given: 0, every GPU holds everything (DDP)")
    if not train and n != 1:
        raise InputError("--gpus: sharding is for training; add --mode training")
    if recipe.kind != "simulated":
        return 1, 0  # its moments are sums of shares: memory_grid
    if n != 1 and at >= 2 and (adapter is not None or quantization not in ("none", "")):
        raise InputError(f"--stage {at} with adapters or quantised weights is not modelled; use --stage 0 or 1")
    return n, at


def _refuse(sharding: Mapping[str, Any], recipe: str) -> None:
    from estimator.estimates.memory_grid import refuse

    refuse(sharding, recipe)


def _grid(p: Plan, gpus: Any, stage: Any, sharding: Mapping[str, Any], batch_size: Any, s: Any) -> None:
    """A recipe that is an accounting, sharded: the bytes of the most loaded GPU."""
    if p.recipe.kind == "simulated":
        if sharding:
            _refuse(sharding, p.recipe.name)
        return
    if gpus is None and stage is None and not sharding:
        return
    from estimator.estimates import memory_grid as g

    if gpus is None and stage is None and not g.given(sharding):
        return
    if p.load.adapter is not None:
        raise InputError(f"--method {p.method}: recipe {p.recipe.name} is sharded for full training only")
    p.grid = g.sharded(
        p.model, gpus, stage, sharding, recipe=p.recipe.name, optimizer=p.load.optimizer, batch_size=batch_size,
        seq_len=s, attention="sdpa" if p.load.fused else "eager", checkpointing=p.load.checkpointing, derive=p.traced,
    )  # fmt: skip
    top = dict(g.most_loaded(p.grid).kept)
    p.weights_bytes, p.gradients_bytes = top.get("weights", 0), top.get("gradients", 0)
    p.optimizer_bytes = top.get("optimizer", 0)
    p.said += p.grid.said


def _tokens(arch: Architecture, seq_len: Any, said: list[str]) -> Any:
    if seq_len is not None:
        return seq_len
    most = min(DEFAULT_TOKENS, arch.max_positions or DEFAULT_TOKENS)
    said.append(f"--seq-len not given: {most} tokens")
    return most


def _adapter(
    model: Model, arch: Architecture, method: str | None, rank: Any, targets: str | None, args: Any, top: Any
) -> Adapter | None:
    if method is None or method in FULL:
        if rank is not None or targets is not None:
            raise InputError("--rank and --targets belong to an adapter: add --method lora")
        return None
    from estimator.peft import find
    from estimator.peft.base import run

    found = find(method)
    given = dict(args or {})
    if rank is not None and found.rank:
        given[found.rank] = size_option(model, rank, "--rank", "rank")
    if top is not None:
        given["trainable_layers"] = size_option(model, top, "--trainable-layers", "trainable_layers")
    return run(found, arch, model.name, model.config.raw if model.config else {}, targets, given)


def _top(adapter: Adapter | None, top: Any) -> Any:
    return adapter.args["trainable_layers"] if adapter is not None and adapter.method.name == "freeze" else None


def _recipe(name: str | None, adapter: Adapter | None, train: bool, said: list[str]) -> Recipe:
    if name is not None:
        return find_recipe(name)
    chosen = "torch-mixed" if adapter is None and train else "torch-bf16"
    if train:
        said.append(f"--recipe not given: {chosen}")
    return find_recipe(chosen)


def _sharded_states(p: Plan, params: list[Trained]) -> None:
    """What stands on the first GPU."""
    from estimator.parallel.sharded import standing_bytes

    weights, graded, own = standing_bytes(p.arch, p.load, params)
    p.weights_bytes = p.weights_bytes if weights is None else weights
    p.gradients_bytes = sum((t.times * t.n * t.width for t in graded), 0)
    p.optimizer_bytes = state_bytes(find_optimizer(p.load.optimizer), own)


def _paper_states(p: Plan, params: list[Trained]) -> None:
    """Recipes that are a paper's accounting: bytes a parameter instead of tensors."""
    r = p.recipe
    if r.kind == "simulated":
        return
    n = p.trainable
    adam = p.load.optimizer.startswith("adamw") and p.load.optimizer != "adamw8bit"
    states = r.states * n if adam else state_bytes(find_optimizer(p.load.optimizer), params) * 2
    p.gradients_bytes, p.optimizer_bytes = r.gradients * n, r.master * n + states


def _cache(arch: Architecture, b: Any, tokens: Any, kv_dtype: str) -> Any:
    from estimator.kv.layers import KV_FORMATS, cache_bytes

    fmt = find_format(kv_dtype, "--kv-dtype")
    if fmt.name not in KV_FORMATS:
        raise InputError(f"--kv-dtype {kv_dtype}: KV caches are not stored as {kv_dtype}. Use {', '.join(KV_FORMATS)}")
    return cache_bytes(arch, b, tokens, tokens, fmt.block_bits // fmt.block)


def _describe(p: Plan, b: Any, s: Any) -> None:
    def show(x: Any) -> str:
        return str(x.expr) if p.model.kind == "symbolic" and hasattr(x, "expr") else f"{value_of(x):,}"

    what = "a training step" if p.mode == "training" else "inference"
    how = p.recipe.name if p.mode == "training" else "torch"
    if p.method != "full":
        how += f", {p.method}"
    if p.quantization not in ("none", ""):
        how += f", {p.quantization}"
    if p.grid is not None:
        how += f", {show(p.grid.job.degrees.gpus)} GPUs, ZeRO stage {p.grid.stages[0]}"
    if p.load.gpus != 1:
        how += f", on each of {show(p.load.gpus)} GPUs, {STAGE_NAMES[p.load.stage]}"
    p.title = f"Memory of {what}, {p.model.name}: {show(b)} x {show(s)} tokens, {how}"
    p.inputs = {
        "model": p.model.name, "mode": p.mode, "batch_size": b, "seq_len": s, "new_tokens": p.load.new,
        "recipe": p.recipe.name, "optimizer": p.load.optimizer if p.mode == "training" else None,
        "attention": "sdpa" if p.load.fused else "eager", "checkpointing": p.load.checkpointing,
        "quantization": p.quantization, "method": p.method, "logits": p.load.logits,
        "gpus": p.grid.job.degrees.gpus if p.grid else p.load.gpus,
        "stage": p.grid.stages[0] if p.grid else p.load.stage,
    }  # fmt: skip


def simulate(p: Plan) -> Outcome:
    """All moments of the run."""
    if p.mode == "inference":
        return inference(p.arch, p.load)
    if p.recipe.kind == "simulated":
        return training(p.arch, p.load)
    if p.grid is not None:
        from estimator.estimates.memory_grid import outcome

        return outcome(p.grid, trained_tensors(p.arch, p.load))
    return paper(p)


def paper(p: Plan) -> Outcome:
    """The moments of a recipe that is a published accounting: states, gradients and a formula for activations."""
    from estimator.formulas import activations as f

    a, arch = p.load, p.arch
    d, L = arch.hidden, arch.num_layers
    heads = next((x.mixer.heads for x in arch.layers if isinstance(x.mixer, Attention)), 1)
    if p.recipe.kind == "deepspeed":
        held = training(arch, a)
        kept = held["moments.forward_bytes"].total(p.traced) - held["moments.load_bytes"].total(p.traced) - held.states
    elif p.recipe.kind == "zero-paper":
        kept = f.zero_paper_activation_bytes(L, a.b, a.s, d) if a.checkpointing != "full" else 2 * L * a.b * a.s * d
    else:
        layer = {
            "none": lambda: f.layer_activation_bytes(a.s, a.b, d, heads),
            "selective": lambda: f.layer_activation_selective_bytes(a.s, a.b, d, 1),
            "full": lambda: f.layer_activation_full_recompute_bytes(a.s, a.b, d),
        }[a.checkpointing]()
        kept = L * layer + a.s * a.b * d + f.input_output_activation_bytes(a.s, a.b, d, arch.vocab, 1)
    weights = p.recipe.weights * total_params(arch) if a.adapter is None else p.weights_bytes
    base = {("model", "weights"): weights}
    states = base | {("optimizer", "master weights and states"): p.optimizer_bytes}
    whole = states | {("gradients", "all"): p.gradients_bytes}
    active = {("activations", f"{p.recipe.name} formula"): kept}

    def at(key: str, label: str, live: dict[tuple[str, str], Any]) -> Moment:
        total = sum(live.values())
        return Moment(key, label, total, total, live)

    moments = [
        at("moments.load_bytes", "Load", base), at("moments.forward_bytes", "Forward and loss", states | active),
        at("moments.backward_bytes", "Backward", whole | active), at("moments.step_bytes", "Optimizer step", whole),
    ]  # fmt: skip
    return Outcome(moments, weights, p.optimizer_bytes, p.gradients_bytes, trained_tensors(arch, a), base)


__all__ = ["MODES", "Plan", "paper", "plan", "simulate"]
