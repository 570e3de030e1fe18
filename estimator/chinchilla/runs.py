"""Training runs from a CSV file: parameters, tokens or FLOPs, loss; every row checked, one line for what is wrong."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from estimator.chinchilla.laws import FLOPS_PER_PARAM_TOKEN
from estimator.errors import InputError
from estimator.headers import regular_file
from estimator.records import dataclass

MAX_BYTES = 8 << 20
MAX_RUNS = 20_000
MIN_RUNS = 6  # five coefficients and one to spare
# a column's name in any case, blanks and hyphens read as underscores
COLUMNS = {
    "params": ("params", "n", "parameters", "model_size", "num_params"),
    "tokens": ("tokens", "d", "training_tokens", "num_tokens"),
    "train_flop": ("train_flop", "c", "flops", "flop", "compute", "training_flop", "train_flops"),
    "loss": ("loss", "l", "final_loss"),
}
RULES = (
    "fewest-tokens-per-param",
    "most-tokens-per-param",
    "smallest-params",
    "smallest-compute",
    "highest-loss",
    "lowest-loss",
)


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run: parameters, tokens, loss in nats a token, and its line in the file."""

    N: float
    D: float
    loss: float
    line: int

    @property
    def C(self) -> float:
        return FLOPS_PER_PARAM_TOKEN * self.N * self.D


def read(name: str) -> list[TrainingRun]:
    """The runs of a CSV file; InputError naming file and line for anything that is not a run."""
    path = Path(name)
    if regular_file(path, "a CSV file of runs") > MAX_BYTES:
        raise InputError(f"{name}: larger than {MAX_BYTES >> 20} MiB, which no file of runs is")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: is not UTF-8 text; expected a CSV file of runs") from None
    lines = text.splitlines()
    try:
        first = lines[0] if lines else ""
        rows = csv.reader(lines, strict=True, delimiter=next((d for d in ",;\t" if d in first), ","))
        header = next(rows, [])
        where = _columns(header, name)
        runs = []
        for row in rows:
            if any(cell.strip() for cell in row):
                runs.append(_run(row, where, f"{name}, line {rows.line_num}", rows.line_num))
            if len(runs) > MAX_RUNS:
                raise InputError(f"{name}: more than {MAX_RUNS:,} runs; thin it out first")
    except csv.Error as error:
        raise InputError(f"{name}: not a CSV file: {error}") from None
    return runs


def _columns(header: Sequence[str], name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for i, cell in enumerate(header):
        key = cell.strip().lower().replace(" ", "_").replace("-", "_")
        for column, names in COLUMNS.items():
            if key in names and column not in found:
                found[column] = i
    got = ", ".join(c.strip()[:20] for c in header[:8]) or "nothing"
    for column in ("params", "loss"):
        if column not in found:
            raise InputError(f"{name}: no column {column!r}; expected params, tokens (or train_flop), loss; got {got}")
    if "tokens" not in found and "train_flop" not in found:
        raise InputError(f"{name}: no column 'tokens' or 'train_flop'; got {got}")
    return found


def _run(row: Sequence[str], where: dict[str, int], place: str, line: int) -> TrainingRun:
    value = {}
    for column, i in where.items():
        cell = row[i].strip() if i < len(row) else ""
        try:
            number = float(cell)
        except ValueError:
            raise InputError(f"{place}: {column} must be a number, got {cell[:40]!r}") from None
        if not 0 < number < math.inf:
            raise InputError(f"{place}: {column} must be a finite number > 0, got {cell[:40]}")
        value[column] = number
    tokens = value["tokens"] if "tokens" in value else value["train_flop"] / (FLOPS_PER_PARAM_TOKEN * value["params"])
    if not 0 < tokens < math.inf:
        raise InputError(f"{place}: train_flop / (6 params) is out of range")
    return TrainingRun(value["params"], tokens, value["loss"], line)


def exclude(
    runs: Sequence[TrainingRun], rules: Sequence[str]
) -> tuple[list[TrainingRun], list[TrainingRun], list[str]]:
    """Runs kept, runs left out, and a sentence for each rule; see :data:`RULES` (``fewest-tokens-per-param=5``).

    ``lines=3,17`` leaves out the runs at these lines of the file.
    """
    gone: dict[int, TrainingRun] = {}
    said = []
    for rule in rules:
        name, eq, value = (p.strip() for p in rule.partition("="))
        left = [r for r in runs if r.line not in gone]
        if name == "lines":
            chosen = _lines(value, runs)
            said.append(f"{len(chosen)} runs left out: lines {value}")
        elif name in RULES and eq and value.isdigit() and len(value) < 10:
            chosen = sorted(left, key=_KEY[name])[: int(value)]
            said.append(f"{len(chosen)} runs left out: {name.replace('-', ' ')}")
        else:
            known = ", ".join(RULES)
            raise InputError(
                f"--exclude: expected RULE=COUNT with RULE one of {known}, or lines=3,17; got {rule[:60]!r}"
            )
        gone |= {r.line: r for r in chosen}
    return [r for r in runs if r.line not in gone], list(gone.values()), said


_KEY = {
    "fewest-tokens-per-param": lambda r: r.D / r.N,
    "most-tokens-per-param": lambda r: -r.D / r.N,
    "smallest-params": lambda r: r.N,
    "smallest-compute": lambda r: r.C,
    "highest-loss": lambda r: -r.loss,
    "lowest-loss": lambda r: r.loss,
}


def _lines(value: str, runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    by_line = {r.line: r for r in runs}
    chosen = []
    for item in value.split(","):
        text = item.strip()
        if not text.isdigit() or len(text) > 9 or int(text) not in by_line:
            raise InputError(f"--exclude lines: {text[:20]!r} is not the line of a run")
        chosen.append(by_line[int(text)])
    return chosen


def check(runs: Sequence[TrainingRun], name: str) -> None:
    """InputError unless the runs can determine five coefficients at all."""
    if len(runs) < MIN_RUNS:
        raise InputError(f"{name}: {len(runs)} runs; a fit of five coefficients needs at least {MIN_RUNS}")
    for what, values in (
        ("params", {r.N for r in runs}),
        ("tokens", {r.D for r in runs}),
        ("loss", {r.loss for r in runs}),
    ):
        if len(values) < 2:
            raise InputError(
                f"{name}: all runs have the same {what}, {next(iter(values)):.6g}; a law cannot be told from one"
            )
