"""``llmcalc fermi``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.errors import InputError
from estimator.render import check_format, emit
from estimator.texts import pairs

app = o.new_app()


@app.command()
def fermi(
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario's name, a TOML file, or: new.", metavar="SCENARIO|FILE.toml|new")
    ] = None,
    file: Annotated[str | None, typer.Argument(help="With new: the file to write.", metavar="FILE")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped scenarios.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a quantity: 3, '100 GB', 'between 1 and 4', gpu:h200.memory, '= a * b'; repeatable.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Samples drawn where quantities have ranges; 0: none.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the samples: the same seed, the same bytes.")] = 0,
    target: Annotated[
        str | None, typer.Option(help="The quantity of the histogram and the ranking.", metavar="NAME")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Show this quantity and the steps that lead to it; repeatable.", metavar="NAME"),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Use this GPU preset instead of the scenario's.", metavar="GPU")
    ] = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = "",
    symbols: o.Symbols = None,
) -> None:
    """Fermi estimates: a chain of quantities with units, sources and uncertainty."""
    check_format(format)
    if scenario == "new":
        from estimator.fermi.template import DEFAULT_FILE, write_template

        print(f"wrote {write_template(file or DEFAULT_FILE)}; run it: llmcalc fermi {file or DEFAULT_FILE}")
        return
    if file is not None:
        raise InputError(f"unexpected argument {file[:60]!r}. To write a template: llmcalc fermi new FILE")
    from estimator.commands.fermi.report import fermi as estimate
    from estimator.commands.fermi.report import listing

    if list_ or scenario is None:
        emit(listing(), format, output)
        return
    report = estimate(scenario, pairs(set_, "--set"), samples, seed, target, gpu, bool(derive), only or ())
    emit(report, format, output, derive, symbols)
