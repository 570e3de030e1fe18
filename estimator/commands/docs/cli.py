"""``llmcalc docs``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from estimator import options as o

app = o.new_app()
WIDEST = 104  # the outputs in the pages are 100 columns wide


@app.command()
def docs(
    topic: Annotated[str | None, typer.Argument(help="A page; without one, all of them are listed.")] = None,
) -> None:
    """A page of the documentation in the terminal; piped, its Markdown as it is."""
    from estimator.commands.docs.topics import page, title, topics
    from estimator.render.streams import write

    if topic is None:
        width = max(map(len, topics()))
        lines = [f"  {name:<{width}}  {title(path)}" for name, path in topics().items()]
        write("\n".join(["llmcalc docs TOPIC prints one of these pages:", "", *lines, ""]), sys.stdout)
        return
    text = page(topic)
    if not sys.stdout.isatty():
        write(text, sys.stdout)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(soft_wrap=False)
    console.width = min(console.width, WIDEST)
    with console.capture() as drawn:
        console.print(Markdown(text, hyperlinks=False))
    write(drawn.get(), sys.stdout)
