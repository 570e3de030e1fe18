"""What an adapter trains, stores and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator.commands.peft import working
from estimator.commands.peft.plan import model_format, optimizer_state_bytes, share, trained_format
from estimator.commands.peft.question import Peft
from estimator.dtypes import Format
from estimator.errors import InputError
from estimator.formula import Citation
from estimator.formulas.params import total_params
from estimator.formulas.peft import adapter_bytes, trainable_percent
from estimator.inventory import weights_of
from estimator.models import Model
from estimator.peft import find
from estimator.peft.asked import prepare
from estimator.peft.base import TRAINED, Adapter, PeftTensor
from estimator.questions import ask
from estimator.report import Node, Report
from estimator.texts import json_or_text
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, ELEMENTS, FLOPS, PARAMS, PERCENT


def peft(
    model: Model | str | None, method: str | None = None, rank: Any = None, targets: Any = None, **options: Any
) -> Report:
    """Parameters, bytes and work of a fine-tuning method on ``model``.

    method: a name of :data:`estimator.peft.METHODS`, or "all". options: the fields of
    :class:`~.question.Peft`. targets: module names (a list, or one text with commas), "all-linear",
    "default" or a regular expression. args: further arguments by the peft library's names. dtype: of what is trained
    (default: fp32 for an adapter, bf16 for the model's own weights). reduction, budget, trainable: solve for the rank
    that trains ``reduction`` times fewer parameters than the whole model, whose trained bytes stay within ``budget``
    ("100MB"), or whose share is at most ``trainable`` ("0.5%"). Raises InputError for what the library refuses.
    """
    return answer(ask(Peft, model, {**options, "method": method, "rank": rank, "targets": targets}))


def answer(q: Peft) -> Report:
    """The report of a question."""
    args = dict(q.args)
    if q.virtual_tokens is not None:
        given = q.virtual_tokens
        args["num_virtual_tokens"] = json_or_text(given) if isinstance(given, str) else given
    if q.complexity:
        from estimator.commands.peft.complexity import complexity

        return complexity(rank=q.rank, seq_len=q.seq_len)
    if q.matrix is not None:
        from estimator.commands.peft.matrix import matrix

        if q.budget is not None or q.trainable is not None or q.targets is not None or args:
            raise InputError("--matrix goes with --rank or --reduction only")
        return matrix(q.matrix, q.rank, q.reduction, q.dtype, traced=q.derives)
    if q.seq_len is not None:
        raise InputError("--seq-len goes with --complexity")
    return _adapter(q, args)


def _adapter(q: Peft, args: dict[str, Any]) -> Report:
    model, method, rank, targets, trainable_layers = q.model, q.method, q.rank, q.targets, q.trainable_layers
    reduction, budget, trainable, dtype, optimizer = q.reduction, q.budget, q.trainable, q.dtype, q.optimizer
    if method == "all":
        from estimator.commands.peft.compare import compare

        return compare(model, rank, targets, args, dtype, optimizer)
    goals = [
        name
        for name, value in (("--reduction", reduction), ("--budget", budget), ("--trainable", trainable))
        if value is not None
    ]
    found_rank: Any = None
    found_notes: tuple[str, ...] = ()
    if goals:
        from estimator.commands.peft.solve import solve_rank

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


def _report(
    model: Model, adapter: Adapter, dtype: str | None, optimizer: str, found_rank: Any, found_notes: tuple[str, ...]
) -> Report:
    fmt, assumed = trained_format(adapter, dtype)
    base = total_params(model.architecture)
    nodes = [
        Node(
            "trainable_params", "Trained parameters", adapter.trained, PARAMS, _breakdown(adapter, model), "sum",
            working=working.trained(adapter, _tail),
        ),
        Node(
            "frozen_extra_params", "Stored beside them, not trained", adapter.frozen, ELEMENTS,
            working=working.tensors(
                [t for t in adapter.tensors if t.state != TRAINED], "the tensors that are stored and not trained", _tail
            ),
        ),
        Node(
            "trainable_percent", "Share of all parameters", share(adapter, base), PERCENT, formula=trainable_percent,
            working=working.percent(adapter, base),
        ),
        *_bytes(adapter, fmt, model_format(model), optimizer, model.kind == "symbolic"),
    ]
    if base:
        own = model.architecture.weights()
        nodes.insert(
            3, Node("base_params", "Parameters of the model", base, PARAMS, working=lambda: weights_of(own))
        )
        fewer = working.ratio(base, adapter.trained, "the model's parameters over those that are trained")
        nodes.insert(
            4, Node("times_fewer", "Times fewer than the model has", _fewer(adapter, base), COUNT, working=fewer)
        )
    if adapter.rank is not None:
        shown = adapter.rank if found_rank is None else found_rank
        nodes.insert(0, Node("rank", "Rank", shown, COUNT))
    facts = {} if adapter.rank is not None else {"rank": None}
    nodes += _work(adapter)
    body = (Node.group("", nodes),)
    inputs = {
        "model": model.name,
        "method": adapter.method.name,
        "rank": adapter.rank,
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
    title = f"{adapter.method.title} on {model.name}" + (f": {_where(adapter, model)}" if adapter.targets else "")
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
        brief=() if model.kind == "symbolic" else (_brief(nodes),),
    )


def _tail(module: str) -> str:
    """A module's name without the path to the layer."""
    return module.rpartition("{i}.")[2] or module


FIRST = ("rank", "trainable_params", "trainable_percent", "base_params", "added_bytes", "gradients_bytes",
         "optimizer_bytes", "checkpoint_bytes")  # fmt: skip


def _brief(nodes: list[Node]) -> Node:
    """The rows that people ask first."""
    return Node.group("", [n for n in nodes if n.key in FIRST])


def _where(adapter: Adapter, model: Model) -> str:
    """What is adapted, by its last name: modules, then parameters that are no module's weight (fused experts)."""
    leaves = [working.EVERY_LAYER if m.leaf == "{i}" else m.leaf for m in adapter.targets]
    matched = {m.name for m in adapter.targets}
    there = {name for w in model.architecture.weights() for name in (w.module, w.name)}
    for t in adapter.tensors:
        if t.state == TRAINED and t.module in there and t.module not in matched:
            leaves.append(".".join(t.module.split(".")[-2 if ".experts." in t.module else -1 :]))
    names = list(dict.fromkeys(leaves))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _fewer(adapter: Adapter, base: Any) -> Any:
    return base / adapter.trained if value_of(adapter.trained) else 0.0


def _breakdown(adapter: Adapter, model: Model) -> tuple[Node, ...]:
    """Trained parameters by module; the path up to the layer is left out where that is clear."""
    rows: dict[str, list[PeftTensor]] = {}
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
            Node(
                f"trainable_params.{label}", label, sum((t.elements for t in tensors), start=0), PARAMS, note=note)
        )
    return tuple(out)


def _shapes(tensors: Sequence[PeftTensor]) -> str:
    """How many layers, and the shapes in each: ``32 x (8x4096, 1024x8)``."""
    texts = ["x".join(str(value_of(s)) for s in t.shape) for t in tensors]
    return f"{value_of(tensors[0].times)} x (" + ", ".join(texts[:3]) + (", ...)" if len(texts) > 3 else ")")


def _bytes(adapter: Adapter, fmt: Format, own: Format, optimizer: str, letters: bool) -> list[Node]:
    bits = fmt.block_bits
    if not fmt.plain or fmt.block != 1:
        raise InputError(f"--dtype {fmt.name}: training needs a plain type. Use fp32, bf16 or fp16")
    base = own.block_bits

    def held(wanted: Callable[[PeftTensor], bool], saved: bool = False) -> Any:
        return adapter_bytes(adapter.bits(bits, base, wanted, saved), 1)

    def node(key: str, label: str, wanted: Callable[[PeftTensor], bool], what: str = "") -> Node:
        return Node(
            key, f"{label}, {fmt.name}", held(wanted), BYTES, working=working.held(adapter, fmt, base, wanted, what)
        )

    added = {id(t) for t in adapter.tensors}
    trained, saved = held(lambda t: t.state == TRAINED), held(lambda t: t.saved, True)
    header = 0 if letters else _header(adapter, fmt, own)
    states = optimizer_state_bytes(adapter, fmt, own, optimizer)
    return [
        node("added_bytes", "Bytes added and trained", lambda t: id(t) in added and t.state == TRAINED),
        node("frozen_extra_bytes", "What is stored beside them", lambda t: t.state != TRAINED),
        node("trained_bytes", "All that is trained", lambda t: t.state == TRAINED),
        node("gradients_bytes", "Gradients", lambda t: t.state == TRAINED, "one gradient a trained parameter; "),
        Node(
            "optimizer_bytes", f"Optimizer states, {optimizer}", states, BYTES,
            working=working.optimizer(optimizer, trained, states),
        ),
        Node(
            "checkpoint_elements", "Numbers in the checkpoint", adapter.saved, ELEMENTS,
            working=working.checkpoint(adapter, adapter.count),
        ),
        Node(
            "checkpoint_bytes", f"Checkpoint, {fmt.name}", saved + header, BYTES,
            working=working.checkpoint(adapter, lambda wanted: held(wanted, True), header),
        ),
    ]  # fmt: skip


def _header(adapter: Adapter, fmt: Format, own: Format) -> Any:
    """Bytes of adapter_model.safetensors before its numbers."""
    if not adapter.tensors:
        return 0
    from estimator.peft.file import header_bytes

    return header_bytes(adapter, fmt.name, own.name)


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
    products_a_token = working.work(adapter, "flops", f"one token (m = 1) through each target; {working.PRODUCT}")
    rows = [
        Node("extra_flops_per_token", "Extra FLOPs a token", flops, FLOPS, note=merged, working=products_a_token)
    ]
    if value_of(fixed):
        rows.append(Node("extra_flops_per_pass", "Extra FLOPs a forward pass", fixed, FLOPS, note=merged))
    in_turn = working.work(adapter, "products", "products of each target, one after the other")
    rows.append(Node("extra_products", "Extra products in sequence", products, COUNT, note=merged, working=in_turn))
    return rows
