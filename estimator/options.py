"""Options shared by the commands: one spelling, one help text, one parser each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from estimator.errors import InputError

if TYPE_CHECKING:
    from estimator.report import Report

SetField = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a config field; repeatable.", metavar="FIELD=VALUE"),
]
FORMATS = "table, json, csv, markdown, latex (a document: --standalone) or html."
Format = Annotated[str, typer.Option("--format", "-f", help=FORMATS, metavar="FORMAT")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Write to this file instead of standard output.", metavar="FILE"),
]
Derive = Annotated[
    str,
    typer.Option(
        "--derive", help="Show the working of each number; =short: one line each; =KEY,...: of these.", metavar="[HOW]"
    ),
]
Detail = Annotated[bool, typer.Option("--detail", help="Everything: all rows, assumptions and sources.")]
Symbols = Annotated[
    str | None,
    typer.Option("--symbols", help="Rename letters of the derivation: L=N_layer,d=D.", metavar="OLD=NEW,..."),
]
# how an answer is shown: option -> its parameter, and its default
SHOWN: dict[str, Any] = {
    "format": Format, "output": Output, "derive": Derive, "symbols": Symbols, "detail": Detail,
}  # fmt: skip
DEFAULTS: dict[str, Any] = {"format": "table", "output": None, "derive": "", "symbols": None, "detail": False}
Gpu = Annotated[str | None, typer.Option("--gpu", help="A GPU preset: llmcalc gpus lists them.", metavar="GPU")]


def new_app() -> typer.Typer:
    """A Typer for one command: plain help, no completion, errors left to cli.run."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def takes(main: Any, parameters: Iterable[inspect.Parameter]) -> None:
    """Have Typer read these parameters off a function that takes any."""
    made = list(parameters)
    main.__signature__ = inspect.Signature(made)
    main.__annotations__ = {p.name: p.annotation for p in made}


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter with a default, given by its name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def shown(*names: str) -> Callable[[Callable[..., Report]], Callable[..., None]]:
    """A command whose function answers with a report: it takes the options ``names`` of ``SHOWN`` beside its own.

    The function is told whether it derives where it has a parameter ``derive``.
    """

    def made(answer: Callable[..., Report]) -> Callable[..., None]:
        own = inspect.signature(answer, eval_str=True).parameters

        def main(**typed: Any) -> None:
            from estimator.render import check_format, emit

            how = {k: typed.pop(k) for k in names}
            check_format(how["format"])
            if "derive" in own:
                typed["derive"] = bool(how["derive"])
            emit(answer(**typed), **how)

        kept = [p for p in own.values() if p.name != "derive"]
        takes(main, [*kept, *(keyword(k, SHOWN[k], DEFAULTS[k]) for k in names)])
        main.__name__, main.__doc__ = answer.__name__, answer.__doc__
        return main

    return made


def load(model: str | None, overrides: list[str] | None, traced: bool = False) -> Any:
    """The Model of an optional ``--model``, or None."""
    if model is None:
        if overrides:
            raise InputError("--set overrides a field of a model's config: add --model")
        return None
    from estimator.models import load_model

    return load_model(model, overrides or (), traced=traced)
