"""``llmcalc models``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()


@app.command()
def models(
    name: Annotated[
        str | None, typer.Argument(help="A preset, shown whole; or a part of names (llama, qwen*).")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Only this model_type: llama, qwen3_moe, bert ...")] = None,
    min_params: Annotated[str | None, typer.Option(help="At least so many parameters: 7B.", metavar="SIZE")] = None,
    max_params: Annotated[str | None, typer.Option(help="At most so many parameters: 14B.", metavar="SIZE")] = None,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = "",
    symbols: o.Symbols = None,
) -> None:
    """The model presets: a list that filters, or one whole (also a config.json, a folder, a .gguf ...)."""
    check_format(format)
    from estimator.commands.models import report as catalog

    if name and not (family or min_params or max_params) and catalog.is_one(name):
        report = catalog.model(name, set_ or (), bool(derive))
    else:
        report = catalog.models(name or "", family, min_params, max_params)
    emit(report, format, output, derive, symbols)
