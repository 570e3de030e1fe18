"""Memory of a training step or of generation: every moment, the peak, who holds it, and what fits on a card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.active import active_words
from estimator.card import Card, Range, find_card
from estimator.changes import helping
from estimator.commands.memory import figure
from estimator.commands.memory.allocator import Reserved
from estimator.commands.memory.host import host_of, ram_of, verdict_of, worst_of
from estimator.commands.memory.host import node_of as on_host
from estimator.commands.memory.needed import fullest
from estimator.commands.memory.plan import MODES, MemoryPlan, plan, simulate
from estimator.commands.memory.question import Memory
from estimator.commands.memory.storage import implied_training, refuse_serving
from estimator.commands.memory.text import (
    assumptions,
    brief,
    buffer_rows,
    first_step,
    inputs_of,
    title_of,
)
from estimator.engines import OWN, answered
from estimator.errors import InputError, InternalError
from estimator.fit import NO, TIGHT, YES, fit_of, require_fit
from estimator.formula import Citation
from estimator.formulas.params import active_params, embedding_params, total_params
from estimator.inventory import weights_of
from estimator.models import Model
from estimator.moments import Moment, Outcome
from estimator.names import choice
from estimator.questions import ask
from estimator.records import replace
from estimator.report import Cell, Node, Report, Table
from estimator.trace import value_of, wordless
from estimator.units import BYTES, PARAMS
from estimator.working import Working, multiple

STACK = Citation(
    "PyTorch 2.11 autograd (derivatives.yaml) and transformers 5 modeling files, simulated operation by operation"
)


def memory(model: Model | str, mode: str | None = None, recipe: str | None = None, check_fit: bool = False,
           gpu: str | None = None, **options: Any) -> Report:  # fmt: skip
    """Memory of ``model``.

    mode: "inference" or "training". Further options: the fields of :class:`~.question.Memory`; sizes
    may be ints or texts (``8k``). ``recipe="all"`` compares all recipes. Raises InputError for options that do not
    exist or contradict each other, DoesNotFit with ``check_fit`` where the run does not fit the GPU.
    """
    given = {**options, "mode": mode, "recipe": recipe, "check_fit": check_fit, "gpu": gpu}
    report = answer(ask(Memory, model, given))
    if check_fit:
        require_fit(report)
    return report


def answer(q: Memory) -> Report:
    """The report of a question."""
    if q.mode is None:
        why = implied_training(q)
        made = answer(replace(q, mode="training" if why else "inference"))
        return made._replace(assumptions=(why, *made.assumptions)) if why else made
    choice(q.mode, "--mode", MODES)
    if q.check_fit and q.gpu is None and q.gpu_memory is None:
        raise InputError("--check-fit needs --gpu")
    if q.largest is not None:
        from estimator.commands.memory import largest as search

        if search.served(q):
            return search.largest_served(q)
    stepped = q.training and q.engine in (None, *OWN)
    if stepped:
        refuse_serving(q)
    report = None if stepped else answered("memory", q)
    if report is not None:
        return report
    if q.model.kind == "symbolic":
        _letters_only(q)
    if not q.training and q.model.architecture.counted_only:
        from estimator.commands.memory.weights import weights_alone

        return weights_alone(q)
    if q.recipe == "all":
        if q.mode == "inference":
            raise InputError("--recipe all compares training steps: leave --mode inference out")
        return compare(q)
    card = find_card(q.gpu, q.gpu_memory)
    found = None
    if q.largest is not None:
        found = search.largest(q, card)
        most = found[0].children[0]
        q = replace(q, **{search.FIELDS[q.largest][0]: max(1, most.value)})  # shown: the run with it
    p = plan(q)
    report = _report(p, simulate(p), card)
    if found is None:
        return report
    node, said = found
    return report._replace(body=(node, *report.body), brief=(node, *report.brief), verdict=said)


IN_LETTERS = ("zero-paper", "megatron")  # recipes that are formulas of L, d and h


def _letters_only(q: Memory) -> None:
    """InputError where the moments would have to be simulated: the largest of them needs sizes."""
    if not q.training or q.recipe not in IN_LETTERS:
        raise InputError(
            "--model symbolic: a simulated step needs sizes; in letters: --mode training with --recipe zero-paper, "
            "or with --recipe megatron --checkpointing full, and llmcalc peft, zero and kvcache"
        )


def _standing(p: MemoryPlan) -> tuple[Node, Node]:
    """(parameters, what stands through a step)."""
    count = total_params(p.arch)
    params = [
        Node("params.total", "All", count, PARAMS, working=lambda: weights_of(p.arch.weights())),
        Node("params.active", "Used by a token", active_params(p.arch), PARAMS, note=active_words(p.arch)),
        Node("params.embedding", "Embedding tables and output matrix", embedding_params(p.arch), PARAMS),
        Node("params.trainable", "Trained", p.trainable, PARAMS),
    ]
    each = multiple(p.weights_bytes, count, lambda n: f"{n} bytes a parameter")
    standing = [Node("weights_bytes", "Weights", p.weights_bytes, BYTES, working=each)]
    if p.mode == "training":
        by = p.load.optimizer
        each = multiple(p.gradients_bytes, p.trainable, lambda n: f"{n} bytes a trained parameter")
        kept = multiple(p.optimizer_bytes, p.trainable, lambda n: f"{by} keeps {n} bytes a trained parameter")
        standing += [
            Node("gradients_bytes", "Gradients", p.gradients_bytes, BYTES, working=each),
            Node("optimizer_bytes", f"Optimizer states ({by})", p.optimizer_bytes, BYTES, working=kept),
        ]
    else:
        standing.append(Node("kv_cache_bytes", "KV cache", p.kv_cache_bytes, BYTES))
    return Node.group("Parameters", params), Node.group("What stands", standing)


def _report(p: MemoryPlan, outcome: Outcome, card: Card) -> Report:
    bare = wordless()
    worst = outcome.worst
    peak = worst.total(p.traced)
    most = fullest(p, outcome)
    held = Reserved(p, most, card)
    moments = [_moment(m, m is worst and not bare, p) for m in outcome.moments]
    body: list[Any] = [
        *_standing(p),
        Node.max("peak.allocated_bytes", "Peak: the largest of these moments", moments),
        _range("peak.reserved_bytes", "Reserved by the allocator", held.held, "allocated and its fragmentation",
               held.reserved_steps),
        _range("peak.device_bytes", "Shown by the driver", held.on_card, "with the CUDA context and loaded kernels",
               held.device_steps),
    ]
    fit, best = held.fit(), ""
    facts: dict[str, Any] = {"peak.moment": worst.key.split(".")[1].removesuffix("_bytes")}
    host = host_of(p)
    ram = ram_of(p.question, host, card, None if fit is None else fit.need)
    facts["fits"] = worst_of(None if fit is None else fit.answer, ram)
    if held.pooled is not None:
        rests = "Handed out, with the rests that blocks keep"
        body.insert(3, Node("peak.blocks_bytes", rests, held.pooled.allocated, BYTES))
    if p.mode == "training" and p.load.gpus != 1:
        body.insert(3, first_step(outcome, p))
    if value_of(most) > value_of(peak):
        body.insert(3, Node("peak.fullest_bytes", "The last GPU's peak, which is higher", most, BYTES))
    if p.pipeline is not None:
        body.insert(3, p.pipeline.table())
    if host is not None:
        body.append(on_host(host))
    if fit is not None:
        body.append(fit.node())
    if bare:
        return Report("memory", "", {}, tuple(body), facts)
    if fit is not None and fit.answer != YES:
        from estimator.commands.memory.changes import advice

        changes, best = advice(p.question, card, int(value_of(most)), fit)
        body.append(changes)
    title = title_of(p)
    buffers = next(n.children for n, m in zip(moments, outcome.moments, strict=True) if m is worst)
    shown: tuple[Any, ...] = () if p.model.kind == "symbolic" else (brief(p, worst, buffers, fit, host),)
    if shown and isinstance(body[-1], Table):  # of the changes those that help
        shown += (helping(body[-1], 3),)
    return Report(
        "memory",
        title,
        inputs_of(p),
        tuple(body),
        facts,
        (*([held.note] if held.note else []), *assumptions(p, outcome, card)),
        (STACK,),
        tuple(p.model.notes),
        symbolic=p.model.kind == "symbolic",
        verdict=verdict_of(fit, ("" if fit is None else best + held.hint(p, fit)), host, ram),
        brief=shown,
        hidden=p.pipeline.nodes() if p.pipeline is not None else (),
        figure=lambda: figure.moments(title, outcome, None if fit is None else fit.have, card.name),
    )


def _moment(m: Moment, worst: bool, p: MemoryPlan) -> Node:
    """One moment; the peak's buffers below it."""
    if not worst:
        return Node(m.key, m.label, m.total(p.traced), BYTES)
    node = Node.sum(m.key, m.label, buffer_rows(m, p), note="the peak")
    if value_of(node.value) != value_of(m.peak):
        raise InternalError(f"{m.key}: buffers sum to {value_of(node.value)}, the log to {value_of(m.peak)}")
    return node


def _range(key: str, label: str, r: Range, note: str, steps: Callable[[int], Working]) -> Node:
    ends = (
        Node(f"{key}.low", "low", r.low, BYTES, working=steps(0)),
        Node(f"{key}.high", "high", r.high, BYTES, working=steps(2)),
    )
    return Node(key, label, r.best, BYTES, ends, note=note, working=steps(1))


def _recipes() -> list[tuple[str, Citation]]:
    """What each recipe means, a sentence and a source each."""
    from estimator.recipes import RECIPES, find_recipe

    found = [find_recipe(name) for name in RECIPES]
    return [(f"{r.name}: {r.title}" + (f"; {r.note}" if r.note else ""), r.cite) for r in found]


def compare(q: Memory) -> Report:
    """All recipes side by side."""
    from estimator.recipes import RECIPES, find_recipe

    if q.ram is not None:
        raise InputError("--ram: --recipe all compares cards; ask one recipe with --offload")
    rows: list[tuple[str | Cell | None, ...]] = []
    hidden, fits, last, out = [], [], None, []
    card = find_card(q.gpu, q.gpu_memory)
    for name in RECIPES:
        try:
            last = plan(replace(q, recipe=name, mode="training"))
        except InputError as error:
            if not find_recipe(name).scores and find_recipe(name).code is None:
                raise
            out.append(f"{name} is left out: {error}")
            continue
        outcome = simulate(last)
        r = find_recipe(name)
        peak = outcome.worst.total(last.traced)
        fit = fit_of(peak, card, "training")
        fits.append(None if fit is None else fit.answer)
        moments = [outcome[f"moments.{k}_bytes"].total(last.traced) for k in ("load", "forward", "backward", "step")]
        rows.append((
            name, f"{r.weights}+{r.gradients}+{r.master + r.states}", *(Cell(x, BYTES) for x in (*moments, peak)),
            *(() if fit is None else (fit.answer,)),
        ))  # fmt: skip
        hidden.append(Node(f"{name}.peak_bytes", name, peak, BYTES))
    assert last is not None
    columns = ("recipe", "B/param", "load", "forward", "backward", "step", "peak", *(("fits",) if card.bytes else ()))
    table = Table(
        "Peak of one training step",
        columns,
        tuple(rows),
        "B/param: weights + gradients + optimizer (master copy and AdamW's moments)",
    )
    best = next((x for x in (YES, TIGHT, NO) if x in fits), None)
    return Report(
        "memory",
        f"{title_of(last).split(':')[0]}: every recipe",
        inputs_of(last) | {"recipe": "all"},
        (table,),
        {"fits": best} if best else {},
        (*out, *(text for text, _ in _recipes()), *last.said, *last.model.notes),
        (STACK, *(cite for _, cite in _recipes())),
        last.model.notes,
        hidden=tuple(hidden),
        symbolic=q.model.kind == "symbolic",
        verdict=f"No recipe of {q.model.name} fits {card.name}." if best == NO else "",
    )
