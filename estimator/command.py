"""A command of a question: Typer's parameters come from the dataclass's fields, nothing is listed twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from estimator import options as o
from estimator.errors import DoesNotFit, InputError
from estimator.questions.base import Option, Question, Unsaid, ask, options_of
from estimator.records import NamedTuple
from estimator.report import Report, Text
from estimator.stand_ins import check_elsewhere

TYPES: dict[str, Any] = {"text": str, "flag": bool, "switch": bool, "int": int, "float": float, "list": list[str]}


class Shown(NamedTuple):
    """How the answer is shown: the options that are no part of the question."""

    format: str
    output: str | None
    derive: str
    symbols: str | None
    detail: bool


def spelt(name: str, words: Option) -> str:
    """The name of a field's parameter: its flag's, with underscores."""
    return (words.flag or name).replace("-", "_")


def parameter(name: str, default: Any, words: Option) -> inspect.Parameter:
    """The Typer parameter of a field."""
    flag = "--" + (words.flag or name.replace("_", "-"))
    names = () if words.kind == "switch" else (flag, *words.short.split())
    unsaid = isinstance(default, Unsaid)
    made = typer.Option(*names, help=words.help, metavar=words.metavar, show_default=str(default) if unsaid else True)
    kind = TYPES[words.kind]
    if default is None or default is inspect.Parameter.empty or words.kind == "list" or unsaid:
        kind, default = kind | None, None
    return o.keyword(spelt(name, words), Annotated[kind, made], default)


def with_plot(report: Report, asked: bool) -> Report:
    """The report with its figure drawn in the terminal where that was asked for."""
    if not asked:
        return report
    if report.figure is None:
        raise InputError("--plot: this question has no picture: llmcalc docs plots")
    from estimator.render.plots import terminal

    figure = report.figure()
    drawn = Text(figure.title, terminal(figure))
    return report._replace(body=(*report.body, drawn), brief=(*report.brief, drawn) if report.brief else ())


def reported(q: Question, shown: Shown) -> Report:
    """The answer of the module ``report`` that stands beside the question's."""
    made: Report = import_module(f"{q.__module__.rpartition('.')[0]}.report").answer(q)
    return made


def command(
    question: type[Question],
    answer: Callable[[Any, Shown], Report] = reported,
    app: typer.Typer | None = None,
    name: str = "",
) -> typer.Typer:
    """A Typer of one command: asks ``question`` of what was typed, has it answered and shows the report.

    app, name: of a command that has several, the Typer that it is added to, and its name there.

    With ``--check-fit`` the report comes first, then DoesNotFit.
    """
    fields = {spelt(f.name, w): (f, w) for f, w in options_of(question)}

    def main(**typed: Any) -> None:
        from estimator.render import check_format, emit

        shown = Shown(**{k: typed.pop(k) for k in o.SHOWN})
        check_format(shown.format)
        overrides, model = typed.pop("set_"), typed.pop("model")
        options = {fields[k][0].name: v for k, v in typed.items()}

        def answered() -> tuple[Any, Report]:
            asked = ask(question, model, options, overrides, traced=bool(shown.derive))
            return asked, with_plot(answer(asked, shown), getattr(asked, "plot", False))

        asked, report = answered()
        if report.symbolic:
            check_elsewhere(report, lambda: answered()[1])
        wrong: DoesNotFit | None = None
        if getattr(asked, "check_fit", False):
            from estimator.fit import require_fit

            try:
                require_fit(report)
            except DoesNotFit as error:  # said after the report; what was asked wrongly is said before
                wrong = error
        emit(report, *shown)
        if wrong is not None:
            raise wrong

    made = [
        parameter(f.name, inspect.Parameter.empty if callable(f.default_factory) else f.default, w)
        for f, w in fields.values()
    ]
    made.append(o.keyword("set_", o.SetField, None))
    o.takes(main, [*made, *(o.keyword(k, o.SHOWN[k], o.DEFAULTS[k]) for k in o.SHOWN)])
    main.__name__, main.__doc__ = question.__name__.lower(), inspect.cleandoc(question.__doc__ or "").split("\n\n")[0]
    app = o.new_app() if app is None else app
    app.command(name or None)(main)
    return app
