"""What the live page asks: a command line in, everything that the page shows out, as JSON.

The page runs this program in the browser (docs/assets/worker.js); nothing is computed anywhere else. A question is run
once and rendered twice, as a fragment of HTML and as the JSON of ``--format json``.
"""

from __future__ import annotations

import io
import json
import shlex
from contextlib import redirect_stderr, redirect_stdout

from estimator.cli import run
from estimator.render import RECEIVER, to_text
from estimator.report import Report

# asked while nobody waits, so that a first question of its kind finds its modules imported and its presets read
WARMING = (
    "memory llama-3.1-8b --mode training --method qlora --gpu rtx-4090",
    "kvcache deepseek-v3 --gpu h200",
    "peft llama-3-8b --method lora --rank 8",
    "zero llama-3.1-70b --gpus 64 --stage 3",
    "infer llama-3.1-8b --gpu h100-sxm",
    "train llama-3.1-8b --tokens 1B --gpus 8 --gpu h100-sxm",
    "flops llama-3.1-8b --gpu h100-sxm",
    "memory mixtral-8x7b --mode training --gpus 8 --stage 3 --gpu h100-sxm",
    "kvcache llama-3.1-8b --engine vllm --gpu h100-sxm",
    "infer llama-3.1-8b --gpu h100-sxm --engine vllm --rate 2",
    "peft --model symbolic --method lora --rank r --derive",
)


def warm(step: int) -> bool:
    """Ask one of WARMING, by its place; False where there is none left."""
    if step < len(WARMING):
        reply(WARMING[step])
    return step + 1 < len(WARMING)


def reply(line: str) -> str:
    """The answer to ``line`` (``llmcalc memory gpt2 --gpu t4``) as JSON.

    ``code``, the exit code; ``error``: the one line of the command line where it is not 0. ``html``: the report, with
    its derivations where asked for; ``json``: what ``--format json`` prints, as text (JavaScript's
    numbers are all floats); ``text``: what the command prints where that is no report (``--help``).
    """
    out, err = io.StringIO(), io.StringIO()
    got: dict[str, object] = {}

    def receive(report: Report, derive: bool | str, symbols: str | None, detail: bool) -> None:
        asked_first = report if detail or not report.brief else report._replace(body=report.brief)
        got["html"] = to_text(asked_first, "html", derive, symbols, fragment=True)
        got["json"] = to_text(report, "json", False, symbols if report.symbolic else None)
        got["notes"] = report.notes

    try:
        words = shlex.split(line)
    except ValueError as error:
        return json.dumps({"code": 2, "error": f"error: {error}"})
    token = RECEIVER.set(receive)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(words[1:] if words[:1] == ["llmcalc"] else words)
    finally:
        RECEIVER.reset(token)
    return json.dumps({"code": code, "text": out.getvalue(), "error": err.getvalue().strip(), **got})
