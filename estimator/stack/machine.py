"""What a simulated forward pass needs to know: sizes, widths, which weights train, adapters, quantisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from fractions import Fraction
from typing import Any

from estimator.families.base import Extra, Linear, Lookup, Norm
from estimator.ops import exact_div
from estimator.records import dataclass
from estimator.stack.dropout import NO_DROPOUT, Dropout
from estimator.stack.kernels import HOPPER, GpuKernels
from estimator.stack.liger_mappings import TORCH, Replaced
from estimator.stack.releases import PRESENT, Release
from estimator.stack.tape import F32, HALF, GradFn, Leaf, Param, Tape, Tensor, to_backward


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """LoRA of one module: rank, whether DoRA, and the adapters' width (peft keeps them in fp32).

    ``dropout``: the input is dropped; ``other``: the trained elements of an adapter of another kind in this module,
    whose rank is then 0. ``size_a``, ``size_b``: elements of both factors in one layer; ``work``: the products of
    another kind, each (rows, k, n), its rows None for every token that passes;
    ``parameter``: the module's weight is adapted as a bare parameter. ``forward``: what a method that states its own
    operations runs in the module's place (estimator.stack.adapted). ``layers``: the numbers of the layers that have it,
    and ``also`` what others have of the same module, where ranks differ; without them it is the largest for all.
    """

    rank: Any
    dora: bool = False
    width: int = F32
    other: Any = 0
    size_a: Any = 0
    size_b: Any = 0
    dropout: bool = False
    work: tuple[tuple[Any, Any, Any], ...] = ()
    parameter: bool = False
    forward: Callable[..., Tensor] | None = None
    layers: tuple[int, ...] | None = None
    also: tuple[LoraSpec, ...] = ()


@dataclass(slots=True)
class Machine:
    """One run.

    b, s, kv    sequences, tokens of a sequence that go in, tokens that keys and values cover
    w           width of the model's own numbers; fused: True for SDPA, False for eager attention
    trains      whether the weight called ``name`` in the layer being simulated trains
    adapters    module name -> LoraSpec; quantised: the modules whose weight is packed, ``dequant`` their extra bytes
    training    True in training mode; cached: whether keys and values go into a cache
    """

    t: Tape
    b: Any
    s: Any
    kv: Any
    w: int
    fused: bool = True
    trains: Callable[[str], bool] = lambda name: True
    adapters: Callable[[str], LoraSpec | None] = lambda name: None
    packed: Callable[[str], str] = lambda name: ""
    training: bool = True
    cache: dict[Any, list[Any]] | None = None
    layer_key: Any = 0
    past: Any = 0
    logits: str = "all"
    loss: str = "full"
    selective: bool = False
    prompted: Any = 0
    encode: Callable[[Machine], Tensor] | None = None  # what makes the virtual tokens (estimator.stack.prompt)
    prompts: Tensor | None = None  # the virtual tokens, once they are made
    both_prompted: bool = False  # the decoder that an encoder feeds has some too
    named_by_caller: list[Tensor] = field(default_factory=list)  # until the model's forward pass has returned
    prefix: Any = 0
    prefix_frozen: Any = 0  # of them
    unmet: set[str] = field(default_factory=set)  # adapted modules that no operation has asked for yet
    varied: dict[str, LoraSpec] = field(default_factory=dict)  # adapted modules whose adapters differ between layers
    inputs_want_grad: bool = False  # enable_input_require_grads: the embeddings' output is a leaf
    # what an adapter runs before the model: (machine, model, its forward pass, whether layers are checkpointed)
    ahead: Callable[..., None] | None = None
    after: Callable[..., Tensor] | None = None  # what it makes of the loss: (machine, model, loss, logits)
    layered: tuple[str, Callable[..., Tensor]] | None = None  # the layers that it wraps, and what runs in their place
    beside: dict[str, Tensor] = field(default_factory=dict)  # what it hands from there to the layers
    segment_trains: bool | None = None
    # adapted modules whose adapters these layers do not have; of those that differ, (module, which of them)
    segment_without: frozenset[Any] = frozenset()
    probs: Tensor | None = None
    kept_probs: Tensor | None = None
    params: dict[str, Param] = field(default_factory=dict)
    shared: dict[str, Param] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    tables: dict[str, Tensor] = field(default_factory=dict)
    enc_tokens: Any = 0
    update: Callable[[Any, int], Any] | None = None  # bytes of an update made as soon as a gradient is there
    standing: bool = False  # gradients of the micro-batch before are there
    kernels: Replaced = TORCH
    card: GpuKernels = HOPPER
    release: Release = PRESENT
    masked: bool = False  # batches come with an attention_mask: where a mask is made, it is one for each sequence
    blocks: bool = False  # a mask is made where SDPA would need none
    drops: Dropout = NO_DROPOUT
    scored: Fraction = Fraction(1)
    hold_outputs: bool = False
    copies_experts: bool = False  # generate() decodes: see estimator.stack.moe.copied_experts
    widens: bool = False  # accelerate hands the outputs on in fp32: its ConvertOutputsToFp32
    token_rows: dict[str, tuple[Any, int]] = field(default_factory=dict)  # a table -> trained numbers, their width
    named: list[Tensor] = field(default_factory=list)  # logits that the loss has left in the loop's hands
    named_by_modules: list[Any] = field(default_factory=list)  # storages that modules name until they run again
    one_kernel: bool = False  # attention is one fused kernel whatever the model asks of it: a serving engine's
    context: Any = 1  # GPUs that share a sequence
    tensor: Any = 1  # GPUs that share each layer, and whether they share the stream's tokens too
    sequence: bool = False
    tied: bool = False  # the output matrix is the table
    stores: bool = False  # later layers reuse this layer's keys and values
    copied: set[str] = field(default_factory=set)  # weights of which an adapter trains a copy (modules_to_save)
    parallel_loss: bool = False
    received: Tensor | None = None  # by a stage of a pipeline that is not its first
    hands_on: bool = False  # a stage that is not the last: its output goes to the next, and has no loss
    before: list[Tensor] = field(default_factory=list)  # output of the micro-batch before, named until this one's
    wrap: Any = None  # told when a layer begins and ends: estimator.parallel.sharded.Fully

    def as_now(self, fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """``fn``, which also when a backward pass runs it again finds what is set for the layer that runs now."""
        params, without, stores = self.params, self.segment_without, self.stores

        def call(x: Tensor) -> Tensor:
            keep, self.params, self.segment_without, self.stores = self.params, params, without, stores
            try:
                return fn(x)
            finally:
                self.params = keep

        return call

    def returns(self) -> None:
        """A stage's forward pass is over: its output takes the name of the one before."""
        self.before.clear()
        if self.wrap is not None:
            self.wrap.returns(self.leaves)

    def held_tokens(self, a: Any) -> Any:
        """Tokens that a layer's keys cover in this pass: those held, at most a window less one, and the new."""
        held = self.past
        if a.cache_window is not None and held >= a.cache_window:
            held = a.cache_window - 1
        return held + self.s

    @property
    def rows(self) -> Any:
        return self.b * self.s

    @property
    def stream(self) -> Any:
        """Tokens of the residual stream on this GPU."""
        return exact_div(self.rows, self.tensor) if self.sequence else self.rows

    def hand_on(self, *outputs: Tensor) -> list[Tensor]:
        """The logits (and the encoder's states) as they leave the model's forward: copied to fp32, and kept where the
        loop names its outputs."""
        if self.widens:
            outputs = tuple(
                [x if x.w == F32 else self.t.alloc(x.n, F32, "outputs in fp32", "loss") for x in outputs]
            )
        return list(outputs) if self.hold_outputs else []

    def hold(self, probs: Tensor) -> None:
        """Attention probabilities that the layer's loop keeps (``x, _ = self.self_attn(...)``), where autograd does
        not anyway."""
        if not self.t.grad or (self.t.frame is not None and self.t.again is None):
            self.probs = probs

    def param(self, name: str, n: Any, w: int | None = None, trains: bool | None = None) -> Param:
        """The weight called ``name`` with ``n`` elements (one layer's)."""
        params = self.params if "{i}" in name else self.shared
        found = params.get(name)
        if found is None:
            found = Param(n, w or self.w, name, self.trains(name) if trains is None else trains)
            params[name] = found
            if found.node is not None:
                self.leaves.append(found.node)
                found.node.update = self.update
                if self.standing:
                    found.node.held = Tensor(found.n, found.w, None)
        return found

    def next_layer(self) -> None:
        """Forget the weights of the layer before: the next layer has its own."""
        self.params = {}

    def norm_weights(self, norm: Norm) -> tuple[Param | None, Param | None]:
        if not norm.affine or norm.kind == "none":
            return None, None
        bias = self.param(f"{norm.name}.bias", norm.width) if norm.bias else None
        return self.param(f"{norm.name}.weight", norm.width), bias

    def table(self, table: Lookup) -> Tensor:
        """A table of tokens, or a copy of it with the rows that an adapter trains."""
        return self.as_trained(self.param(f"{table.name}.weight", table.rows * table.width), table.name)

    def as_trained(self, whole: Param, module: str) -> Tensor:
        """A module's weight, or a copy of it with the rows that an adapter trains."""
        trained = self.token_rows.get(module)
        if trained is None:
            return whole
        n, w = trained
        return with_rows(self.t, whole, self.param(f"{module}.trainable_tokens", n, w, self.training))

    def extra(self, extra: Extra, w: int | None = None) -> Param:
        n: Any = 1
        for x in extra.shape:
            n = n * x
        return self.param(extra.name, n, w)

    def weight(self, lin: Linear) -> tuple[Param, Param | None]:
        """Weight and bias of a linear layer."""
        bias = self.param(f"{lin.name}.bias", lin.d_out) if lin.bias else None
        return self.param(f"{lin.name}.weight", lin.d_in * lin.d_out), bias


def with_rows(t: Tape, table: Tensor, rows: Tensor) -> Tensor:
    """peft tuners/trainable_tokens/layer.py, get_merged_weights: table.index_copy(0, tokens, rows), a copy of all."""
    if rows.w != table.w:
        rows = t.emit("trained rows, converted", rows.n, table.w, (rows,), to_backward, None, rows.w)
    return t.emit("table with trained rows", table.n, table.w, (table, rows), _rows_bwd, None, (table.n, rows.n))


def _rows_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """The rows' gradient is read out; the table's has zeros in their places."""
    return tuple(
        None if p is None else t.alloc(n, g.w, "gradient of rows") for p, n in zip(node.ins, node.extra, strict=True)
    )


__all__ = ["F32", "HALF", "LoraSpec", "Machine"]
