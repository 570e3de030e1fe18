"""``llmcalc man``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from estimator import options as o
from estimator.render.streams import write, write_file

app = o.new_app()


@app.command()
def man(
    command: Annotated[str | None, typer.Argument(help="A command (default: all of llmcalc).")] = None,
    output: o.Output = None,
) -> None:
    """The manual page in troff: llmcalc man | man -l -; with -o llmcalc.1 a file to install."""
    from estimator.commands.man.page import page

    made = page(command)
    if output:
        write_file(output, made)
    else:
        write(made, sys.stdout)
