"""Compute-optimal training: parameters, tokens, loss, time and money, from any one of them.

The question is one of a budget of FLOPs, parameters, tokens, USD or GPU-hours (on a GPU at a utilisation), or a
model. Whatever else is given bends the answer: fixed parameters or tokens (over-training), tokens to be served,
unique tokens, the share of parameters that is active.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from estimator.chinchilla import laws, sections
from estimator.chinchilla.laws import Law
from estimator.chinchilla.question import ALL, QUESTIONS, Answer, Request, answer_of, choose, plain_law, two
from estimator.chinchilla.steps import LETTERS
from estimator.errors import InputError
from estimator.report import Node, Report, Table, Text
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.render.plots import Figure


def chinchilla(request: Request | None = None, **options: Any) -> Report:
    """The compute-optimal model of a budget, or the budget of a model; see :class:`Request`.

    Raises InputError for a question that is not one, and for numbers that are out of range.
    """
    return drawn(replace(request or Request(), **options))[0]


def drawn(request: Request) -> tuple[Report, Figure | None]:
    """The report, and the figure that ``plot`` asks for."""
    given = [q for q in QUESTIONS if getattr(request, q) is not None]
    if len(given) > 1:
        raise InputError(two(given))
    law = choose(request)
    if request.plot:
        from estimator.chinchilla import plots

        plots.check(request.plot, plots.KINDS, None if request.law == ALL else law)
        if request.law == ALL and request.plot in ("contours", "isoflop"):
            raise InputError(f"--plot {request.plot} draws one law; name one, or --plot frontier or ratio")
    try:
        report, answer = (_side_by_side if request.law == ALL else _single)(request, law, given)
        return report, _figure(request, answer) if request.plot else None
    except (OverflowError, ZeroDivisionError):
        raise InputError(f"the answer of law {law.label} is out of range for these numbers") from None


def _figure(request: Request, answer: Answer) -> Figure:
    from estimator.chinchilla import plots

    C, N = float(value_of(answer.C)), float(value_of(answer.N))
    marks = [(C, N, "optimum")]
    if answer.trained:
        marks.append((answer.trained[0], answer.trained[1], "as trained"))
    assert request.plot is not None
    return plots.of_law(request.plot, plain_law(answer.law), C, marks)


def _single(request: Request, law: Law, given: list[str]) -> tuple[Report, Answer]:
    answer = answer_of(request, law, given)
    law = answer.law
    body: list[Node | Table | Text] = [sections.optimum(answer), sections.closed_form(law)]
    facts: dict[str, Any] = {"law": law.id, "coefficients": law.set}
    if law.any_loss is None and law.loss_power is None:
        facts["loss"] = None
    if answer.machine:
        body.append(sections.cost(answer.C, answer.machine, ""))
    for section in (sections.fixed, sections.served_model, sections.repeated):
        node = section(request, answer)
        body += [node] if node else []
    if law.interval95 and law.parametric:
        body.append(sections.intervals(law))
    if request.law is None and law.id != "own":
        body.append(sections.others(answer))
    if request.derive and law.parametric:
        from estimator.chinchilla.steps import text

        body.append(text(law, request.symbols))
    assumes = [f"law: {law.name}, coefficients {law.set} ({law.where})"]
    assumes += [f"N counts {law.counts}"] if law.counts else []
    assumes += [law.note] if law.note else []
    title = f"Compute-optimal training, {law.name}, {law.set} coefficients"
    assumptions = (*assumes, *answer.assumptions, *answer.notes)
    return Report(
        "chinchilla",
        title,
        answer.inputs,
        tuple(body),
        facts,
        assumptions,
        (law.cite,),
        tuple(answer.notes),
        letters=LETTERS,
        hidden=sections.coefficients(law),
        verdict=_refitted(request, answer, given),
    ), answer


PRINTED, REFIT = "hoffmann", "epoch"


def _refitted(request: Request, answer: Answer, given: list[str]) -> str:
    """Of Hoffmann's approach 3 as printed, what the refit of the same runs says of the same question."""
    if answer.law.id != PRINTED or request.derive or request.train_params or request.train_tokens:
        return ""
    other = answer_of(replace(request, law=REFIT, coefficients=None), laws.load(REFIT), given)
    here, there = (float(value_of(x.D / x.N)) for x in (answer, other))
    return (
        f"{here:.4g} tokens a parameter; the refit of the same runs (Besiroglu et al. 2024) gives {there:.4g}: "
        f"--law {REFIT}."
    )


def _side_by_side(request: Request, _: Law, given: list[str]) -> tuple[Report, Answer]:
    """Every law, with every set of coefficients, on the same question."""
    bent = [
        k
        for k in ("train_params", "train_tokens", "inference_tokens", "unique_tokens", "coefficients", "derive")
        if getattr(request, k)
    ]
    if bent:
        raise InputError(f"--law all compares the optima only: leave out --{bent[0].replace('_', '-')} or name one law")
    rows, answer = [], None
    facts: dict[str, Any] = {}
    for law in laws.every_set():
        answer = answer_of(replace(request, derive=False), law, given)
        C = float(value_of(answer.C))
        rows.append(sections.row(law, C))
        name = f"{law.id}.{law.set}"
        loss = law.frontier_loss(C) if law.parametric or law.loss_power else None
        facts |= {
            f"{name}.N_opt": answer.N,
            f"{name}.D_opt": answer.D,
            f"{name}.C": answer.C,
            f"{name}.tokens_per_param": answer.D / answer.N,
            f"{name}.loss": loss,
        }
    assert answer is not None
    inputs: Mapping[str, Any] = {**answer.inputs, "law": ALL, "coefficients": None}
    table = Table("", sections.COLUMNS, tuple(rows), sections.LOSSES)
    cites = tuple(dict.fromkeys(law.cite for law in laws.every_set()))
    notes = tuple(answer.notes)
    return Report(
        "chinchilla",
        "Compute-optimal training, every law",
        inputs,
        (table,),
        facts,
        (*answer.assumptions, *notes),
        cites,
        notes,
    ), answer


__all__ = ["Request", "chinchilla", "drawn"]
