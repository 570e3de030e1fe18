"""``llmcalc completion``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from estimator import options as o
from estimator.errors import InputError
from estimator.render.streams import write

app = o.new_app()
ESCAPED = str.maketrans({":": "\\:", "\\": "\\\\"})


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
    describe: Annotated[
        str | None, typer.Option(help="words: with what they mean, for zsh or fish.", metavar="SHELL")
    ] = None,
) -> None:
    """A script that completes llmcalc's commands, options and names in bash, zsh or fish."""
    if shell != "words":
        from estimator.commands.completion.scripts import script

        if context.args:
            raise InputError(f"completion takes the name of one shell, got also {context.args[0][:40]!r}")
        write(script(shell), sys.stdout)
        return
    from estimator.commands.completion.words import candidates

    found = candidates(context.args)
    if describe == "zsh":
        lines = [w.text.translate(ESCAPED) + (f":{w.help}" if w.help else "") for w in found]
    elif describe == "fish":
        lines = [w.text + (f"\t{w.help}" if w.help else "") for w in found]
    else:
        lines = [w.text for w in found]
    write("".join(f"{line}\n" for line in lines), sys.stdout)
