"""``llmcalc sweep COMMAND``: the options of that command, where sizes and names may be lists and ranges."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Annotated, Any

import typer

from estimator import options as o
from estimator.command import parameter, spelt
from estimator.errors import InputError
from estimator.questions.base import flag_of, options_of
from estimator.sweep.grid import SweptAxis, recorded_by, values_of
from estimator.sweep.run import QUESTIONS, Sweep, question_of
from estimator.sweep.write import check, emit

Keys = Annotated[str | None, typer.Option("--keys", help="Results that are wanted, with commas (default: all).")]
Format = Annotated[str, typer.Option("--format", "-f", help="csv, json or parquet.", metavar="FORMAT")]
Plot = Annotated[bool, typer.Option("--plot", help="Draw --keys against the swept size; rows go to --output.")]
OWN: dict[str, tuple[Any, Any]] = {
    "keys": (Keys, None), "plot": (Plot, False), "format": (Format, "csv"), "output": (o.Output, None),
    "set_": (o.SetField, None),
}  # fmt: skip
SINGLE = ("check_fit", "plot")  # of one answer, not of rows
NUMBERS = ("int", "float")
HELP = (
    "One row for every combination of sizes and names: --batch-size 1,2,4 --seq-len 1k:64k:x2 --method lora,qlora. "
    "FIRST:LAST is each, FIRST:LAST:STEP steps, FIRST:LAST:xFACTOR factors. Every row equals the single command."
)


def app_of(words: Sequence[str]) -> typer.Typer:
    """A Typer of the command that ``words`` name, or of all of them without their options, for the help."""
    app = o.new_app()
    app.callback(help=HELP)(lambda: None)
    named = next((word for word in words if not word.startswith("-")), None)
    if named is not None:
        question_of(named)
        _add(app, named)
        return app
    for name in QUESTIONS:
        app.command(name, help=f"Rows of llmcalc {name}: its options, each one value, a list or a range.")(lambda: None)
    return app


app = app_of(())


def _add(app: typer.Typer, name: str) -> None:
    """The options of a command's question as texts, and the sweep's own."""
    question, _ = question_of(name)
    fields = {spelt(f.name, w): (f, w) for f, w in options_of(question) if f.name not in SINGLE}
    recorded = recorded_by(name)

    def main(**typed: Any) -> None:
        own = {k: typed.pop(k) for k in OWN}
        axes, fixed = [], {}
        for k, value in typed.items():
            if value in (None, False, []):
                continue
            field, words = fields[k]
            flag = flag_of(field.name, question)
            values = values_of(field.name, value, flag, recorded) if isinstance(value, str) else [value]
            if words.kind in NUMBERS:
                values = [_number(v, words.kind, flag) for v in values]
            if len(values) > 1:
                axes.append(SweptAxis(field.name, values))
            else:
                fixed[field.name] = values[0] if words.kind in NUMBERS else value
        _rows(name, axes, fixed, **own)

    made = [
        parameter(f.name, False if w.kind == "flag" else None, w._replace(kind="text") if w.kind in NUMBERS else w)
        for f, w in fields.values()
    ]
    o.takes(main, [*made, *(o.keyword(k, kind, default) for k, (kind, default) in OWN.items())])
    app.command(name, help=f"Rows of llmcalc {name}. {HELP}")(main)


def _number(value: Any, kind: str, flag: str) -> Any:
    """A value of an option that takes plain numbers."""
    try:
        return int(value) if kind == "int" else float(value)
    except ValueError:
        what = "whole number" if kind == "int" else "number"
        raise InputError(f"{flag}: {str(value)[:40]!r} is not a {what}") from None


def _rows(
    name: str, axes: list[SweptAxis], fixed: dict[str, Any], keys: str | None, plot: bool, format: str,
    output: str | None, set_: list[str] | None,
) -> None:  # fmt: skip
    from estimator.render.plots import picture

    check(format, output)
    wanted = None if keys is None else [k.strip() for k in keys.split(",") if k.strip()]
    if wanted == []:
        raise InputError("--keys is empty: name results, or leave it out for all of them")
    asked = Sweep(name, axes, fixed, wanted, set_ or ())
    told = {k: asked.told(k, v) for k, v in fixed.items()}
    inputs = {"command": name, **told, "swept": {a.name: len(a.values) for a in axes}, "keys": asked.keys}
    if plot or picture(output):
        _drawn(asked, wanted, axes, plot, output)
        if output is None or picture(output):
            return
    chunks = asked.chunks()
    chunks = chain(list(islice(chunks, 1)), chunks)  # what is asked wrongly is said before anything is printed
    watched = sys.stderr is not None and sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
    emit(format, output, asked.header, _watched(chunks, len(asked.grid)) if watched else chunks, inputs)


def _drawn(asked: Sweep, keys: list[str] | None, axes: list[SweptAxis], plot: bool, output: str | None) -> None:
    """The rows as a picture: in the terminal, or in the file that ``output`` names."""
    from estimator.render.plots import draw, picture, terminal
    from estimator.render.streams import write, write_file
    from estimator.sweep.picture import rows_drawn

    fixed = (f"{k.replace('_', '-')} {v}" for k, v in asked.fixed.items() if k != "model" and v is not True)
    title = " ".join([asked.command, str(asked.fixed.get("model", ""))]).strip() + ": " + ", ".join(fixed)
    figure = rows_drawn(title.removesuffix(": "), axes, asked.header, keys, asked.chunks())
    if output is not None and picture(output):
        write_file(output, draw(figure, output))
    if plot:
        write(f"{figure.title}\n{terminal(figure)}\n", sys.stdout)


def _watched(chunks: Iterator[dict[str, Any]], rows: int) -> Iterator[dict[str, Any]]:
    """The chunks, with a bar on the terminal of standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    shown = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    with shown:
        task = shown.add_task("rows", total=rows)
        for chunk in chunks:
            yield chunk
            shown.advance(task, len(next(iter(chunk.values()))))
