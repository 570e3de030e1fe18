"""What an adapter trains, stores and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimator.dtypes import Format, find_format
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.formula import Citation
from estimator.formulas.params import total_params
from estimator.formulas.peft import adapter_bytes, trainable_percent
from estimator.models import Model
from estimator.peft import find
from estimator.peft.base import FROZEN, TRAINED, Adapter, Method, Tensor, run
from estimator.report import Node, Report
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, ELEMENTS, FLOPS, PARAMS, PERCENT

DEFAULT_METHOD = "lora"
VIRTUAL = "num_virtual_tokens"


def build_adapter(
    arch: Architecture,
    name: str,
    config: Mapping[str, Any],
    method: str,
    rank: Any = None,
    targets: str | Sequence[str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Adapter:
    """The adapter of ``method`` on an architecture; ``rank`` sets the argument that the method calls its rank."""
    found = find(method)
    args = dict(given or {})
    if rank is not None:
        if not found.rank:
            raise InputError(f"--rank: {found.title} has no rank; its arguments: {', '.join(found.args) or 'none'}")
        if args.get(found.rank) not in (None, rank):
            raise InputError(f"--rank and --arg {found.rank} say different things")
        args[found.rank] = rank
    return run(found, arch, name, config, targets, args)


def prepare(
    model: Model,
    method: str,
    rank: Any,
    targets: str | Sequence[str] | None,
    args: Mapping[str, Any] | None,
    trainable_layers: Any,
    trial: bool = False,
) -> Adapter:
    """The adapter that the options describe; letters and traced sizes where the model is given in letters or derives.

    trial: the rank is one of several being tried, and stays a plain number.
    """
    found = find(method)
    given = {k: _argument(model, found, k, v) for k, v in (args or {}).items()}
    if rank is not None:
        if str(rank).strip().lstrip("+-0") == "" and str(rank).strip():
            raise InputError(f"--rank must be >= 1, got {str(rank).strip()[:20]}")
        rank = rank if trial else size_option(model, rank, "--rank", "rank")
    if trainable_layers is not None:
        if found.name != "freeze":
            raise InputError(f"--trainable-layers is for --method freeze, not {found.name}")
        given["trainable_layers"] = size_option(model, trainable_layers, "--trainable-layers", "trainable_layers")
    if rank is None and found.rank and found.rank not in given and isinstance(found.args.get(found.rank), int):
        default = found.args[found.rank]
        if default > 0 and _traces(model):
            given[found.rank] = size_option(model, "r" if model.kind == "symbolic" else default, "--rank", "rank")
    config = model.config.raw if model.config else {}
    return build_adapter(model.architecture, model.name, config, method, rank, targets, given)


def _traces(model: Model) -> bool:
    return bool(model.config and model.config.traced)


def _argument(model: Model, method: Method, name: str, value: Any) -> Any:
    """One ``--arg``: a letter where the model is given in letters; traced where it counts virtual tokens."""
    counted = name == VIRTUAL or (
        isinstance(method.args.get(name), int) and not isinstance(method.args.get(name), bool)
    )
    letter = isinstance(value, str) and model.kind == "symbolic" and value.isidentifier()
    if counted and (
        letter or (name == VIRTUAL and isinstance(value, int) and not isinstance(value, bool) and value > 0)
    ):
        return size_option(model, value, f"--arg {name}", name)
    return value


def peft(
    model: Model,
    method: str = DEFAULT_METHOD,
    rank: Any = None,
    targets: str | Sequence[str] | None = None,
    args: Mapping[str, Any] | None = None,
    trainable_layers: Any = None,
    dtype: str | None = None,
    optimizer: str = "adamw",
    reduction: Any = None,
    budget: Any = None,
    trainable: Any = None,
) -> Report:
    """Parameters, bytes and work of a fine-tuning method on ``model``.

    method: a name of :data:`estimator.peft.METHODS`, or "all". rank: of the adapter. targets: module names (a list, or
    one text with commas), "all-linear", "default" or a regular expression. args: further arguments by the peft
    library's names. dtype: of what is trained (default: fp32 for an adapter, bf16 for the model's own weights).
    reduction, budget, trainable: solve for the rank that trains ``reduction`` times fewer parameters than the whole
    model, whose trained bytes stay within ``budget`` ("100MB"), or whose share is at most ``trainable`` ("0.5%").
    Raises InputError for what the library refuses.
    """
    if method.strip().lower() == "all":
        from estimator.estimates.peft_compare import compare

        return compare(model, rank, targets, args, dtype, optimizer)
    goals = [
        name
        for name, value in (("--reduction", reduction), ("--budget", budget), ("--trainable", trainable))
        if value is not None
    ]
    found_rank: Any = None
    found_notes: tuple[str, ...] = ()
    if goals:
        from estimator.estimates.peft_solve import solve_rank

        if not find(method).rank:
            raise InputError(f"{goals[0]} solves for a rank, and {find(method).title} has none")
        if len(goals) > 1 or rank is not None:
            raise InputError(
                f"{' and '.join([*goals, *(['--rank'] if rank is not None else [])])} contradict each other: give one"
            )
        found_rank, found_notes = solve_rank(
            lambda r: prepare(model, method, r, targets, args, trainable_layers, trial=True),
            model,
            reduction,
            budget,
            trainable,
            dtype,
        )
        rank = int(value_of(found_rank))
    adapter = prepare(model, method, rank, targets, args, trainable_layers)
    return _report(model, adapter, dtype, optimizer, found_rank, found_notes)


# ------------------------------------------------------------------------------------------------------------- bytes


def trained_format(adapter: Adapter, dtype: str | None) -> tuple[Format, str]:
    """(format of what is trained, how it was chosen)."""
    if dtype is not None:
        return find_format(dtype), ""
    if adapter.tensors:
        return find_format(
            "fp32"
        ), "adapters are stored in fp32, as the peft library does over a 16-bit model (autocast_adapter_dtype)"
    return find_format("bf16"), "the model's own weights are trained in bf16"


def optimizer_state_bytes(adapter: Adapter, fmt: Format, name: str) -> Any:
    """Bytes of the optimizer's states for everything trained, exactly."""
    from estimator.optimizers import Trained, find_optimizer, state_bytes

    width = fmt.block_bits // 8
    rows = [Trained(t.shape, width, t.times) for t in (*adapter.tensors, *adapter.unfrozen) if t.state == TRAINED]
    return state_bytes(find_optimizer(name), rows)


def _report(
    model: Model, adapter: Adapter, dtype: str | None, optimizer: str, found_rank: Any, found_notes: tuple[str, ...]
) -> Report:
    fmt, assumed = trained_format(adapter, dtype)
    base = total_params(model.architecture)
    nodes = [
        Node("trainable_params", "Trained parameters", adapter.trained, PARAMS, _breakdown(adapter, model), "sum"),
        Node("frozen_extra_params", "Stored beside them, not trained", adapter.frozen, ELEMENTS),
        Node("trainable_percent", "Share of all parameters", share(adapter, base), PERCENT, formula=trainable_percent),
        *_bytes(adapter, fmt, optimizer),
    ]
    if base:
        nodes.insert(3, Node("base_params", "Parameters of the model", base, PARAMS))
        nodes.insert(4, Node("times_fewer", "Times fewer than the model has", _fewer(adapter, base), COUNT))
    if adapter.rank is not None:
        shown = adapter.rank if found_rank is None else found_rank
        nodes.insert(0, Node("rank", "Rank", shown, COUNT))
    facts = {} if adapter.rank is not None else {"rank": None}
    nodes += _work(adapter)
    body = (Node.group("", nodes),)
    inputs = {
        "model": model.name,
        "method": adapter.method.name,
        "rank": None if adapter.rank is None else value_of(adapter.rank),
        "targets": sorted({m.leaf for m in adapter.targets}),
        "dtype": fmt.name,
        "optimizer": optimizer,
    }
    notes = dict.fromkeys((*model.notes, *adapter.notes, *found_notes))
    assumptions = [
        *notes,
        *([assumed] if assumed else []),
        f"optimizer states of {optimizer} in the width of what is trained",
    ]
    title = f"{adapter.method.title} on {model.name}" + (f": {_where(adapter)}" if adapter.targets else "")
    return Report(
        "peft",
        title,
        inputs,
        body,
        facts,
        tuple(assumptions),
        (Citation(adapter.method.cite),),
        tuple(notes),
        symbolic=model.kind == "symbolic",
    )


def _where(adapter: Adapter) -> str:
    names = list(dict.fromkeys(m.leaf for m in adapter.targets))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def share(adapter: Adapter, base: Any) -> Any:
    held = sum((t.elements for t in adapter.tensors if t.state == FROZEN), start=0)
    everything = base + adapter.added_trained + held
    return trainable_percent(adapter.trained, everything) if value_of(everything) else 0.0


def _fewer(adapter: Adapter, base: Any) -> Any:
    return base / adapter.trained if value_of(adapter.trained) else 0.0


def _breakdown(adapter: Adapter, model: Model) -> tuple[Node, ...]:
    """Trained parameters by module; the path up to the layer is left out where that is clear."""
    rows: dict[str, list[Tensor]] = {}
    for t in (*adapter.tensors, *adapter.unfrozen):
        if t.state == TRAINED and value_of(t.times):
            rows.setdefault(t.module, []).append(t)
    if len(rows) < 2:
        return ()
    tails = [name.rpartition("{i}.")[2] for name in rows]
    out = []
    for (name, tensors), tail in zip(rows.items(), tails, strict=True):
        label = (tail if tails.count(tail) == 1 else name.replace("{i}", "*")) or "shared"
        note = "" if model.kind == "symbolic" else _shapes(tensors)
        out.append(
            Node(f"trainable_params.{label}", label, sum((t.elements for t in tensors), start=0), PARAMS, note=note)
        )
    return tuple(out)


def _shapes(tensors: Sequence[Tensor]) -> str:
    """How many layers, and the shapes in each: ``32 x (8x4096, 1024x8)``."""
    texts = ["x".join(str(value_of(s)) for s in t.shape) for t in tensors]
    return f"{value_of(tensors[0].times)} x (" + ", ".join(texts[:3]) + (", ...)" if len(texts) > 3 else ")")


def _bytes(adapter: Adapter, fmt: Format, optimizer: str) -> list[Node]:
    bits = fmt.block_bits
    if not fmt.plain or fmt.block != 1:
        raise InputError(f"--dtype {fmt.name}: training needs a plain type. Use fp32, bf16 or fp16")
    trained = adapter_bytes(adapter.trained, bits)
    return [
        Node("added_bytes", f"Added trained parameters, {fmt.name}", adapter_bytes(adapter.added_trained, bits), BYTES),
        Node(
            "frozen_extra_bytes", f"What is stored beside them, {fmt.name}", adapter_bytes(adapter.frozen, bits), BYTES
        ),
        Node("trained_bytes", f"All that is trained, {fmt.name}", trained, BYTES),
        Node("gradients_bytes", f"Gradients, {fmt.name}", trained, BYTES),
        Node(
            "optimizer_bytes", f"Optimizer states, {optimizer}", optimizer_state_bytes(adapter, fmt, optimizer), BYTES
        ),
        Node("checkpoint_elements", "Numbers in the checkpoint", adapter.saved, ELEMENTS),
        Node("checkpoint_bytes", f"Checkpoint, {fmt.name}", adapter_bytes(adapter.saved, bits), BYTES),
    ]


def _work(adapter: Adapter) -> list[Node]:
    """What it costs to run while it is not merged."""
    if adapter.virtual_tokens:
        return [
            Node("virtual_tokens", "Virtual tokens, a longer sequence in every pass", adapter.virtual_tokens, COUNT)
        ]
    if adapter.method.work is None or not adapter.targets:
        return []
    flops, fixed, products = adapter.work()
    merged = "until merged" if adapter.method.merges else "cannot be merged"
    rows = [Node("extra_flops_per_token", "Extra FLOPs a token", flops, FLOPS, note=merged)]
    if value_of(fixed):
        rows.append(Node("extra_flops_per_pass", "Extra FLOPs a forward pass", fixed, FLOPS, note=merged))
    rows.append(Node("extra_products", "Extra products in sequence", products, COUNT, note=merged))
    return rows
