"""``llmcalc models``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.report import Report

app = o.new_app()


@app.command()
@o.shown("format", "output", "derive", "symbols")
def models(
    name: Annotated[
        str | None, typer.Argument(help="A preset, shown whole; or a part of names (llama, qwen*).")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Only this model_type: llama, qwen3_moe, bert ...")] = None,
    min_params: Annotated[str | None, typer.Option(help="At least so many parameters: 7B.", metavar="SIZE")] = None,
    max_params: Annotated[str | None, typer.Option(help="At most so many parameters: 14B.", metavar="SIZE")] = None,
    set_: o.SetField = None,
    derive: bool = False,
) -> Report:
    """The model presets: a list that filters, or one whole (also a config.json, a folder, a .gguf ...)."""
    from estimator.commands.models import report as catalog

    if name and not (family or min_params or max_params) and catalog.is_one(name):
        return catalog.model(name, set_ or (), derive)
    return catalog.models(name or "", family, min_params, max_params)
