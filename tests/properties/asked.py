"""Command lines asked in this process: their reports, options drawn from the program's own surface, and a tally."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from random import Random
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from estimator import presets, render
from estimator.cli import run
from estimator.report import Report
from tests.fuzz.surface import Surface, line, quick, surfaces
from tests.properties.holds import held

MORE = int(os.environ.get("LLMCALC_MORE", "1"))  # make fuzz: how many times as many examples as in CI
ALL = tuple(presets.ids("models"))
SMALL = (
    "pythia-14m",
    "gpt2",
    "smollm2-135m",
    "bert-base-uncased",
    "t5-small",
    "mamba-130m",
    "qwen3-0.6b",
    "gemma-3-270m",
)
WIDE = ("llama-3-8b", "mixtral-8x7b", "gpt-oss-20b", "qwen3-next-80b-a3b", "deepseek-v2-lite", "jamba-v0.1", 
        "falcon-7b", "gemma-3-1b", "bloom-560m", "opt-350m", "albert-base-v2", "flan-t5-small")  # fmt: skip


def report(argv: list[str]) -> Report | None:
    """The report of a command line, held to what holds of every report; None where it is refused.

    AssertionError for any exit code but 0, 2 and 3.
    """
    found: list[Report] = []

    def kept(made: Report, *rest: Any, **more: Any) -> str:
        found.append(made)
        return "\n"

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(render, "to_text", kept):
        code = run(argv)
    assert code in (0, 2, 3), (argv, err.getvalue())
    made = found[-1] if found and code in (0, 3) else None
    if made is not None and not made.symbolic:
        held(made)
    return made


def results(argv: list[str]) -> dict[str, Any] | None:
    """The results of a command line; None where it is refused."""
    made = report(argv)
    return None if made is None else made.results()


def rows(argv: list[str], flag: str, values: list[int]) -> list[dict[str, Any]] | None:
    """What ``sweep`` answers for each value of an option, results by key; None where it is refused, or another value
    has a comma, which it takes for two."""
    if any("," in word for word in argv):
        return None
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["sweep", *argv, flag, ",".join(map(str, values)), "--format", "json"])
    assert code in (0, 2), (argv, flag, err.getvalue())
    found: list[dict[str, Any]] | None = json.loads(out.getvalue())["rows"] if code == 0 else None
    return found


def printed(argv: list[str]) -> dict[str, Any] | None:
    """The JSON that a command line prints; None where it is refused."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([*argv, "--format", "json"])
    assert code in (0, 2, 3), (argv, err.getvalue())
    found: dict[str, Any] | None = json.loads(out.getvalue()) if code in (0, 3) else None
    return found


def surface(*words: str) -> Surface:
    """The options of one command."""
    return next(s for s in surfaces() if s.words == words)


def surface_of(argv: list[str]) -> Surface:
    """The options of the command that a line asks."""
    return max((s for s in surfaces() if tuple(argv[: len(s.words)]) == s.words), key=lambda s: len(s.words))


@st.composite
def lines(draw: Any, *commands: str, without: tuple[str, ...] = (), most: int = 4) -> list[str]:
    """A command line with valid options, without ``--model`` and those in ``without``."""
    rng = Random(draw(st.integers(0, 2**32)))
    pool = [surface(*rng.choice(commands).split())] if commands else quick()
    one = rng.choice(pool)
    skipped = ("--model", "--output", "--adapter", "--format", "--symbols", "--derive", "--set", *without)
    return [*one.words, *line(rng, one, most, 1.0, skipped)]


def models(*names: str) -> Any:
    """A strategy of presets: half of the time a small one or one of an unlike kind."""
    return st.sampled_from(names) if names else st.one_of(st.sampled_from((*SMALL, *WIDE)), st.sampled_from(ALL))


def some(examples: int) -> settings:
    """Settings of a property: so many examples in CI; a failing command line is short as it is and is not shrunk."""
    found = (Phase.explicit, Phase.generate)
    return settings(deadline=None, suppress_health_check=list(HealthCheck), phases=found, max_examples=examples * MORE)
