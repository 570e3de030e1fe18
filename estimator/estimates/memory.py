"""Memory of a training step or of generation: every moment, the peak, who holds it, and what fits on a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimator.card import Card, Range, device, find_card, reserved
from estimator.errors import DoesNotFit, InputError, InternalError, unknown
from estimator.estimates.memory_plan import MODES, Plan, plan, simulate
from estimator.estimates.memory_text import assumptions, buffer_rows, first_step, what_fits
from estimator.formula import Citation
from estimator.formulas.params import active_params, embedding_params, total_params
from estimator.models import Model
from estimator.moments import Moment, Outcome
from estimator.report import Cell, Node, Report, Table
from estimator.trace import Traced, value_of
from estimator.units import BYTES, PARAMS, human

STACK = Citation(
    "PyTorch 2.11 autograd (derivatives.yaml) and transformers 5 modeling files, simulated operation by operation"
)


def memory(
    model: Model,
    mode: str | None = None,
    recipe: str | None = None,
    check_fit: bool = False,
    gpu: str | None = None,
    **options: Any,
) -> Report:
    """Memory of ``model``.

    mode: "inference" or "training". Further options: :func:`estimator.estimates.memory_plan.plan`; sizes may be ints
    or texts (``8k``). ``recipe="all"`` compares all recipes. Raises InputError for options that do not exist or
    contradict each other, DoesNotFit with ``check_fit`` where the peak exceeds the GPU.
    """
    mode = (
        ("training" if recipe is not None or options.get("optimizer") is not None else "inference")
        if mode is None
        else mode
    )
    if mode not in MODES:
        raise unknown("--mode", mode, MODES)
    if check_fit and gpu is None:
        raise InputError("--check-fit needs --gpu")
    if model.kind == "symbolic":
        _letters_only(mode, recipe)
    if recipe == "all":
        if check_fit:
            raise InputError("--check-fit needs one --recipe, not all")
        return compare(model, mode, gpu, options)
    p = plan(model, mode, recipe, **options)
    outcome = simulate(p)
    report = _report(p, outcome, find_card(gpu), gpu)
    if check_fit:
        require_fit(report)
    return report


IN_LETTERS = ("zero-paper", "megatron")  # recipes that are formulas of L, d and h


def _letters_only(mode: str, recipe: str | None) -> None:
    """InputError where the moments would have to be simulated: the largest of them needs sizes."""
    if mode != "training" or recipe not in IN_LETTERS:
        raise InputError(
            "--model symbolic: a simulated step needs sizes; in letters: --recipe zero-paper or megatron, "
            "and llmcalc peft, zero and kvcache"
        )


def require_fit(report: Report) -> None:
    """DoesNotFit where the report says that the run does not fit on its GPU; InputError where it names none."""
    gpu = report.inputs.get("gpu")
    if gpu is None:
        raise InputError("--check-fit needs --gpu")
    if report.facts.get("fits") is False:
        need, have = report.results()["peak.device_bytes"], find_card(gpu).bytes
        name = report.inputs["model"]
        raise DoesNotFit(f"{name} needs {human(need, BYTES)}; {gpu} has {human(have or 0, BYTES)}")


def _report(p: Plan, outcome: Outcome, card: Card, gpu: str | None) -> Report:
    arch = p.arch
    worst = outcome.worst
    peak = worst.total(p.traced)
    held = reserved(peak, p.mode)
    on_card = device(held, card, p.mode)
    params = Node.group(
        "Parameters",
        [
            Node("params.total", "All", total_params(arch), PARAMS),
            Node("params.active", "Used by a token", active_params(arch), PARAMS),
            Node("params.embedding", "Embedding tables and output matrix", embedding_params(arch), PARAMS),
            Node("params.trainable", "Trained", p.trainable, PARAMS),
        ],
    )
    standing = [Node("weights_bytes", "Weights", p.weights_bytes, BYTES)]
    if p.mode == "training":
        standing += [
            Node("gradients_bytes", "Gradients", p.gradients_bytes, BYTES),
            Node("optimizer_bytes", f"Optimizer states ({p.load.optimizer})", p.optimizer_bytes, BYTES),
        ]
    else:
        standing.append(Node("kv_cache_bytes", "KV cache", p.kv_cache_bytes, BYTES))
    moments = [_moment(m, m is worst, p) for m in outcome.moments]
    body: list[Any] = [
        params,
        Node.group("What stands", standing),
        Node.max("peak.allocated_bytes", "Peak: the largest of these moments", moments),
        _range("peak.reserved_bytes", "Reserved by the allocator", held, "allocated and its fragmentation"),
        _range("peak.device_bytes", "Shown by the driver", on_card, "with the CUDA context and loaded kernels"),
    ]
    facts: dict[str, Any] = {"peak.moment": worst.key.split(".")[1].removesuffix("_bytes"), "fits": None}
    if p.mode == "training" and p.load.gpus != 1:
        body.insert(3, first_step(outcome, p))
    if card.bytes is not None:
        facts["fits"] = bool(value_of(on_card.best) <= card.bytes)
        body.append(
            Node.group(
                f"Fits on {card.name}",
                [Node("gpu_bytes", "Its memory", card.bytes, BYTES)],
                note="yes" if facts["fits"] else "no",
            )
        )
        if not facts["fits"]:
            body.append(what_fits(p, card))
    notes = p.notes
    return Report(
        "memory",
        p.title,
        p.inputs | {"gpu": gpu},
        tuple(body),
        facts,
        assumptions(p, card),
        (STACK, *p.citations),
        tuple(notes),
        symbolic=p.model.kind == "symbolic",
    )


def _moment(m: Moment, worst: bool, p: Plan) -> Node:
    """One moment; the peak's buffers below it."""
    if not worst:
        return Node(m.key, m.label, m.total(p.traced), BYTES)
    rows = buffer_rows(m, p)
    node = Node.sum(m.key, m.label, rows, note="the peak")
    if value_of(node.value) != value_of(m.peak):
        raise InternalError(f"{m.key}: buffers sum to {value_of(node.value)}, the log to {value_of(m.peak)}")
    return node


def _range(key: str, label: str, r: Range, note: str) -> Node:
    return Node(
        key,
        label,
        r.best,
        BYTES,
        (Node(f"{key}.low", "low", r.low, BYTES), Node(f"{key}.high", "high", r.high, BYTES)),
        note=note,
    )


def _recipes() -> list[tuple[str, Citation]]:
    """What each recipe means, a sentence and a source each."""
    from estimator.recipes import RECIPES, find_recipe

    found = [find_recipe(name) for name in RECIPES]
    return [(f"{r.name}: {r.title}" + (f"; {r.note}" if r.note else ""), r.cite) for r in found]


def compare(model: Model, mode: str, gpu: str | None, options: Mapping[str, Any]) -> Report:
    """All recipes side by side."""
    from estimator.recipes import RECIPES, find_recipe

    rows: list[tuple[str | Cell | None, ...]] = []
    hidden, last = [], None
    for name in RECIPES:
        last = plan(model, "training", name, **options)
        outcome = simulate(last)
        r = find_recipe(name)
        peak = outcome.worst.total(last.traced)
        rows.append(
            (
                name,
                f"{r.weights}+{r.gradients}+{r.master + r.states}",
                Cell(outcome["moments.load_bytes"].total(last.traced), BYTES),
                Cell(outcome["moments.forward_bytes"].total(last.traced), BYTES),
                Cell(outcome["moments.backward_bytes"].total(last.traced), BYTES),
                Cell(outcome["moments.step_bytes"].total(last.traced), BYTES),
                Cell(peak, BYTES),
            )
        )
        hidden.append(Node(f"{name}.peak_bytes", name, peak, BYTES))
    assert last is not None
    columns = ("recipe", "B/param", "load", "forward", "backward", "step", "peak")
    table = Table(
        "Peak of one training step",
        columns,
        tuple(rows),
        "B/param: weights + gradients + optimizer (master copy and AdamW's moments)",
    )
    return Report(
        "memory",
        f"{last.title.split(':')[0]}: every recipe",
        last.inputs | {"recipe": "all", "gpu": gpu},
        (table,),
        {},
        (*(text for text, _ in _recipes()), *last.said, *last.notes),
        (STACK, *(cite for _, cite in _recipes())),
        last.notes,
        hidden=tuple(hidden),
        symbolic=model.kind == "symbolic",
    )


__all__ = ["Sequence", "Traced", "memory"]
