"""Options of ``memory`` turned into a run to simulate."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, cast

from estimator.commands.memory.grid import refuse, shared
from estimator.commands.memory.layers import DIVIDED_LOSSES, divided_loss, local_tokens
from estimator.commands.memory.projected import projected
from estimator.commands.memory.question import Memory
from estimator.commands.memory.sharding import (
    DEEPSPEED,
    MESH,
    SIMULATED,
    Spread,
    data_parallel,
    narrow_adapters,
    spread,
    standing_states,
    too_deep,
)
from estimator.commands.memory.stack import fields_of, serving, shape_of, width_of
from estimator.commands.memory.stages import Staged, staged
from estimator.commands.memory.storage import (
    EIGHT_BITS,
    UNPACKED,
    WIDTHS,
    approximate,
    as_held,
    left_alone,
    not_run,
    unsimulated,
    unused,
)
from estimator.dtypes import find_format
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention
from estimator.formulas.params import total_params
from estimator.inventory import total as elements
from estimator.models import Model
from estimator.moments import Moment, Outcome, Workload, inference, trained_tensors, training
from estimator.moments.run import ordered
from estimator.names import choice
from estimator.optimizers import Trained, find_optimizer, managed_bytes, state_bytes
from estimator.parallel.divided import adapter_of_rank, expert_rank, one_rank
from estimator.parallel.staged import untied
from estimator.peft.base import Adapter
from estimator.questions.base import Unsaid
from estimator.questions.read import FULL, adapter_of, batch, recipe_of, scored, split_cast, storage_of, tokens
from estimator.recipes.base import Recipe
from estimator.records import dataclass, replace
from estimator.sizes import size_option
from estimator.stack.codes import own_weights
from estimator.stack.tape import F32
from estimator.storage import model_storage
from estimator.storage.file import base_format
from estimator.trace import value_of
from estimator.units import BYTES, human

MODES = ("inference", "training")
CHOICES = {
    "attention": ("eager", "sdpa"),
    "checkpointing": ("none", "selective", "full"),
    "logits": ("last", "all"),
    "loss": ("full", "chunked", "fused", "parallel", "gathered"),
}
DEFAULT_NEW = 8


@dataclass(slots=True)
class MemoryPlan:
    """One run: the question, its workload, and what stands still (bytes a GPU); share: a GPU's part of each layer."""

    question: Memory
    arch: Architecture
    recipe: Recipe
    load: Workload
    share: Architecture
    params: list[Trained]
    weights_bytes: Any
    gradients_bytes: Any
    optimizer_bytes: Any
    kv_cache_bytes: Any
    quantization: str = "none"
    said: list[str] = field(default_factory=list)
    grid: Any = None  # a recipe that is an accounting, on many GPUs: estimator.commands.memory.grid
    pipeline: Staged | None = None
    adapter: Adapter | None = None

    @property
    def model(self) -> Model:
        return cast("Model", self.question.model)

    @property
    def mode(self) -> str:
        return "training" if self.question.training else "inference"

    @property
    def method(self) -> str:
        return "full" if self.load.adapter is None else str(self.question.method)

    @property
    def trainable(self) -> Any:
        """Parameters that the step trains."""
        divided = self.load.divided
        whole = trained_tensors(self.arch, replace(self.load, adapter=self.adapter)) if divided else self.params
        return sum((p.times * p.n for p in whole), 0)

    @property
    def traced(self) -> bool:
        return self.question.traced


def length(q: Memory, said: list[str]) -> Any:
    """Tokens of a sequence as asked for, before packing or sharing; what is assumed is added to ``said``."""
    return tokens(q.model, q.seq_len, said, 0 if q.training or q.new_tokens is not None else DEFAULT_NEW)


def plan(q: Memory) -> MemoryPlan:
    """The run that a question describes. Raises InputError for options that do not exist or contradict each other."""
    train = q.training
    said: list[str] = []
    default: list[str] = []
    chosen = recipe_of(q, default)
    if train:
        unsaid = chosen.unsaid if isinstance(q.checkpointing, Unsaid) else {}
        q = replace(scored(q, chosen), **chosen.always, **unsaid)
    model, arch = q.model, q.model.described
    for name, known in CHOICES.items():
        choice(getattr(q, name), f"--{name}", known)
    given_new = q.new_tokens is not None
    new = size_option(model, q.new_tokens if given_new else DEFAULT_NEW, "--new-tokens", "new_tokens", "length")
    b, s = batch(model, q.batch_size), length(q, said)
    if not train and arch.kind == "encoder":
        said += [f"--new-tokens {q.new_tokens} is not used by an encoder, which generates nothing"] if given_new else []
    elif not train and not given_new:
        said.append(f"--new-tokens not given: {DEFAULT_NEW} tokens are generated")
    if q.images is not None:
        said.append(
            "the images' tokens count, the activations of their tower do not"
            + ("" if train else ": it runs before the text, and they are freed")
        )
    said += unused(q)
    args, cast = split_cast(q.args)
    q = q if args == q.args else replace(q, args=args)
    adapter = adapter_of(q)
    if train and chosen.code is not None:
        arch = own_weights(arch, chosen.code, adapter is not None)
    own = storage_of(q, said)
    said += default if train else []
    asked = find_format(q.dtype or base_format(model)).name
    width = width_of(chosen, asked, said, q.dtype is not None) if train else WIDTHS.get(asked, 2)
    rest = {4: "fp32", 2: "bf16"}[F32 if q.prepare_kbit else width] if train else q.dtype and asked
    storage = as_held(model_storage(model, own, rest, arch.linear_class), arch, said)
    quantization = storage.scheme
    if train and quantization != "none" and adapter is None:
        raise InputError(f"--quantization {quantization} needs an adapter to train: add --method lora")
    said += storage.notes
    stored = storage.computed if train else storage.bytes
    if train and chosen.code is not None and chosen.code.unties:
        stored = stored + width * (elements(arch.weights()) - elements(model.described.weights()))
    optimizer = find_optimizer(chosen.optimizers.get(q.optimizer, q.optimizer) if q.optimizer else chosen.optimizer)
    stack = fields_of(q, chosen, adapter, quantization, width, cast, s, said) if train else serving(q)
    if train:
        stack["optimizer"] = optimizer.name
        b, s = shape_of(q, chosen, b, s)
    elif asked == "fp16":
        stack["half"] = asked
    on = spread(q, chosen, adapter, quantization, optimizer.name, said)
    if on.context != 1:
        s = local_tokens(s, on.context)
    if on.tensor != 1:
        stack["loss"] = divided_loss(q, said)
    elif train and q.loss in DIVIDED_LOSSES:
        raise InputError(f"--loss {q.loss} is of words that GPUs share: add --tensor-parallel, under a PyTorch recipe")
    if adapter is not None and (chosen.narrow or narrow_adapters(on)):
        stack["adapter_width"] = width
    alone = str(q.gpus or 1) == "1" and on.tensor == 1 == on.experts
    kernels = (*UNPACKED, *EIGHT_BITS) if alone else UNPACKED  # those whose kernels are simulated
    load = Workload(
        b=b, s=s, new=new, width=width, training=train,
        fused=q.attention == "sdpa", checkpointing=q.checkpointing,
        quantization=quantization if quantization in kernels else "", logits=q.logits,
        adapter=adapter, top=_top(adapter),
        blind=_blind(q, arch, on, said), **{f.name: getattr(on, f.name) for f in fields(on)},
        projected=projected(q, arch, optimizer, said) if train else None,
        unpacked=left_alone(storage, said) if quantization in kernels else frozenset(),
        stored=unsimulated(
            stored, storage.computed, "" if train else asked, quantization in kernels, quantization, said
        ),
        **stack,
    )  # fmt: skip
    if train and ordered(arch, load) and (why := too_deep(arch)):
        raise InputError(f"--checkpointing full of this model {why}")
    said += [] if adapter is None else [*approximate(adapter), *(not_run(adapter, q.checkpointing) if train else ())]
    deep = train and chosen.kind == "simulated" and str(q.pipeline_parallel) != "1"
    share = expert_rank(one_rank(untied(arch) if deep else arch, load.tensor, load.sequence), load.experts)
    if adapter is not None and load.tensor != 1:
        load = replace(load, adapter=adapter_of_rank(adapter, share, load.tensor))
    if load.sequence and s % load.tensor != 0:
        raise InputError(f"--sequence-parallel: --tensor-parallel {value_of(load.tensor)} does not divide --seq-len "
                         f"{value_of(s)}")  # fmt: skip
    pipeline = staged(q, share, load, said) if deep else None
    if pipeline is not None:
        load, share = pipeline.load, pipeline.share
    params = trained_tensors(share, load)
    stored = elements(share.weights()) * width if load.divided else stored
    moved = managed_bytes(optimizer, params) if train else 0
    if moved:
        said.append(
            f"{human(value_of(moved), BYTES)} of the optimizer's states lie in unified memory, outside the allocator: "
            "the driver moves them to the card for the step, and away where there is no room"
        )
    grid = _grid(q, chosen, adapter, s) if train else None
    if not train:
        refuse(q, "inference")
    states = _states(share, chosen, load, params, stored, grid) if train else (stored, 0, 0)
    made = MemoryPlan(
        question=q, arch=arch, recipe=chosen, load=load, share=share, params=params, weights_bytes=states[0],
        gradients_bytes=states[1], optimizer_bytes=states[2],
        kv_cache_bytes=0 if train else _cache(q, arch, b, s, new, {4: "fp32", 2: "bf16"}[width], said),
        quantization=quantization, grid=grid, said=[*said, *(grid.said if grid else ())], pipeline=pipeline,
        adapter=adapter,
    )  # fmt: skip
    return made


def _grid(q: Memory, recipe: Recipe, adapter: Adapter | None, s: Any) -> Any:
    """A recipe that is an accounting, sharded: the job of its GPUs; None for a simulated step on one or more."""
    if recipe.kind == "simulated":
        refuse(q, recipe.name, (*SIMULATED, *MESH))
        return None
    if recipe.kind == DEEPSPEED and data_parallel(q):
        return None
    if q.gpus is None and q.stage is None and not shared(q):
        return None
    from estimator.commands.memory.grid import sharded

    if adapter is not None:
        raise InputError(f"--method {q.method}: recipe {recipe.name} is sharded for full training only")
    return sharded(q, recipe.name, s)


def _states(
    arch: Architecture, recipe: Recipe, load: Workload, params: list[Trained], stored: Any, grid: Any
) -> tuple[Any, Any, Any]:
    """(weights, gradients, optimizer states) in bytes: of the tensors, of one GPU's share, or of a paper's rates."""
    optimizer = find_optimizer(load.optimizer)
    if grid is not None:
        from estimator.commands.memory.grid import most_loaded

        top = dict(most_loaded(grid).kept)
        return top.get("weights", 0), top.get("gradients", 0), top.get("optimizer", 0)
    if recipe.kind not in ("simulated", DEEPSPEED):
        n = sum((p.times * p.n for p in params), 0)
        adam = load.optimizer.startswith("adamw") and load.optimizer != "adamw8bit"
        kept = recipe.states * n if adam else state_bytes(optimizer, params) * 2
        return stored, recipe.gradients * n, recipe.master * n + kept
    return standing_states(arch, load, params, stored)


def _blind(q: Memory, arch: Architecture, on: Spread, said: list[str]) -> bool:
    """Whether a step on one GPU leaves a multimodal model's towers without gradients, and so without states. DeepSpeed
    has states of all that may train: it is one flat tensor."""
    blind = q.training and q.images is None and bool(arch.towers) and on.gpus == 1 and on.sharder != DEEPSPEED
    if blind and q.method in FULL:
        said.append("no --images: the batch is text, so the towers get no gradients and no optimizer states")
    return bool(blind)


def _top(adapter: Adapter | None) -> Any:
    return adapter.args["trainable_layers"] if adapter is not None and adapter.method.name == "freeze" else None


def _cache(q: Memory, arch: Architecture, b: Any, s: Any, new: Any, own: str, said: list[str]) -> Any:
    """Bytes of the cache of a prompt and what is generated; own: the format that the moments hold it in. An encoder has
    none; an encoder-decoder's prompt is its encoder's, and what is generated begins with one token."""
    from estimator.kv.layers import cache_bytes, kv_format

    if arch.kind == "encoder":
        if q.kv_dtype is not None:
            raise InputError(f"--kv-dtype: {q.model.name} is an encoder and keeps no KV cache")
        return 0
    fmt = kv_format(q.kv_dtype or own)
    if q.kv_dtype is not None and fmt.name != own:
        said.append(f"--kv-dtype {fmt.name}: kv_cache_bytes only; the moments hold the dynamic cache in {own}")
    return cache_bytes(arch, b, 1 + new if arch.prompts_encoder else s + new, s, fmt.block_bits // fmt.block)


def simulate(p: MemoryPlan) -> Outcome:
    """All moments of the run."""
    if p.mode == "inference":
        return inference(p.arch, p.load)
    if p.grid is not None:
        from estimator.commands.memory.grid import outcome

        return outcome(p.grid, p.params)
    return training(p.share, p.load) if p.recipe.kind in ("simulated", DEEPSPEED) else paper(p)


def paper(p: MemoryPlan) -> Outcome:
    """The moments of a recipe that is a published accounting: states, gradients and a formula for activations."""
    from estimator.formulas import activations as f

    a, arch = p.load, p.arch
    d, L = arch.hidden, arch.num_layers
    heads = next((x.mixer.heads for x in arch.layers if isinstance(x.mixer, Attention)), 1)
    if p.recipe.kind == "zero-paper":
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
    return Outcome(moments, weights, p.optimizer_bytes, p.gradients_bytes, p.params, base)
