"""What may stand next on a command line: commands, options and their values, read off the commands themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from estimator.cli import COMMANDS, MODEL_FIRST, typer_of
from estimator.records import NamedTuple


class Word(NamedTuple):
    """A word that may stand next, and what it means, on one line."""

    text: str
    help: str = ""


def _of(module: str, name: str, *more: str) -> Callable[[], list[str]]:
    return lambda: [*map(str, getattr(import_module(module), name)), *more]


def _choices(module: str, option: str) -> Callable[[], list[str]]:
    return lambda: list(import_module(module).CHOICES[option])


def _modes() -> list[str]:
    from estimator.commands.flops import passes
    from estimator.commands.memory import plan

    return list(dict.fromkeys((*plan.MODES, *passes.MODES)))


def _presets(kind: str) -> Callable[[], list[str]]:
    def names() -> list[str]:
        from estimator.presets import ids

        return list(ids(kind))

    return names


_MEMORY, _STACK = "estimator.commands.memory.plan", "estimator.commands.memory.stack"
# option -> its values; the other options take sizes, files or texts
VALUES: dict[str, Callable[[], list[str]]] = {
    "--model": _presets("models"), "-m": _presets("models"), "--gpu": _presets("gpus"), "--law": _presets("laws"),
    "--method": _of("estimator.peft", "METHODS", "all"), "--optimizer": _of("estimator.optimizers", "OPTIMIZERS"),
    "--recipe": _of("estimator.recipes", "RECIPES"), "--engine": _of("estimator.engines", "ENGINES"),
    "--format": _of("estimator.render", "FORMATS"), "-f": _of("estimator.render", "FORMATS"),
    "--quantization": _of("estimator.storage.schemes", "SCHEMES"), "--dtype": _of("estimator.dtypes", "FORMATS"),
    "--kv-dtype": _of("estimator.kv.layers", "KV_FORMATS"), "--cache": _of("estimator.kv.layers", "CACHES"),
    "--mode": _modes, "--attention": lambda: ["sdpa", "eager"], "--logits": _choices(_MEMORY, "logits"),
    "--checkpointing": _choices(_MEMORY, "checkpointing"), "--autocast": _choices(_STACK, "autocast"),
    "--stage": _of("estimator.parallel.sharding", "STAGES", "all"), "--kernels": _choices(_STACK, "kernels"),
    "--offload": _of("estimator.parallel.offload", "OFFLOADS"),
    "--targets": lambda: ["all-linear", "default", "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj"],
}  # fmt: skip
# commands whose first word is one of these
FIRST: dict[str, Callable[[], list[str]]] = {
    **dict.fromkeys((*MODEL_FIRST, "models"), _presets("models")), "gpus": _presets("gpus"),
    "fermi": _presets("fermi"), "completion": _of("estimator.commands.completion.scripts", "SCRIPTS"),
    "man": lambda: list(COMMANDS),
}  # fmt: skip


def candidates(words: Sequence[str]) -> list[Word]:
    """The words that may replace the last of ``words`` (what is typed so far, after ``llmcalc``)."""
    *before, now = words or [""]
    if not before:
        found = [Word(name, line) for name, (_, line) in COMMANDS.items()]
        return _starting(now, [*found, Word("--help", "the commands"), Word("--version", "the version")])
    name, rest = before[0], before[1:]
    if name not in COMMANDS:
        return []
    command = typer_of(name, rest or [now])
    below = getattr(command, "commands", {})
    if below and rest and rest[0] in below:
        command, rest = below[rest[0]], rest[1:]
        below = {}
    if now.startswith("-"):
        option, eq, value = now.partition("=")
        if eq:
            return [Word(f"{option}={w.text}", w.help) for w in _values(option, value)]
        return _starting(now, options(command))
    if rest and rest[-1].startswith("-") and _takes_value(command, rest[-1]):
        return _values(rest[-1], now)
    if rest and not rest[-1].startswith("-") and len(rest) != 1:
        return []
    first = FIRST.get(name, list)() if not rest else []
    if below and not rest:
        return _starting(now, [Word(n, _line(getattr(c, "help", ""))) for n, c in below.items()])
    return _starting(now, map(Word, first))


def options(command: Any) -> list[Word]:
    """Every option of a command with its help."""
    found = [
        Word(opt, _line(getattr(p, "help", "")))
        for p in command.params
        for opt in (*p.opts, *p.secondary_opts)
        if opt.startswith("-")
    ]
    more = [Word("--standalone", "LaTeX as a document."), Word("--table", "CSV: the table of this title.")]
    return [*found, *(more if any(w.text == "--format" for w in found) else []), Word("--help", "All options.")]


def _takes_value(command: Any, option: str) -> bool:
    return any(option in p.opts and not getattr(p, "is_flag", False) for p in command.params)


def _values(option: str, now: str) -> list[Word]:
    """Values of an option; of a list with commas those of its last item."""
    head, comma, last = now.rpartition(",")
    known = VALUES.get(option, list)()
    return [Word(head + comma + v) for v in known if v.lower().startswith(last.lower())]


def _starting(now: str, words: Iterable[Word]) -> list[Word]:
    return [w for w in words if w.text.lower().startswith(now.lower())]


def _line(text: str | None) -> str:
    return " ".join((text or "").split())
