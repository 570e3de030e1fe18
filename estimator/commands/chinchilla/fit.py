"""A parametric scaling law fitted to a user's own runs, with bootstrap intervals."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimator.chinchilla import laws, runs
from estimator.chinchilla.laws import Law, Parametric
from estimator.chinchilla.question import DEFAULT_COMPUTE, size
from estimator.errors import InputError
from estimator.formula import Citation
from estimator.formulas import scaling as f
from estimator.report import Cell, Node, Report, Table
from estimator.units import COUNT, NATS, PERCENT, RATIO

if TYPE_CHECKING:
    from estimator.render.plots import Figure

SAMPLES = 1000
MOST_SAMPLES = 100_000
LEVEL = 0.95
SEED = 0
KEYS = ("A", "B", "E", "alpha", "beta")
HOFFMANN_D2 = Citation("Hoffmann et al. 2022, appendix D.2: the objective and the grid of starts", f.HOFFMANN.url)
BESIROGLU = Citation(
    "Besiroglu et al. 2024, Chinchilla Scaling: A replication attempt: sum, not mean, of the Huber losses; bootstrap",
    "https://arxiv.org/abs/2404.10102",
)
_LABELS = {"A": "A", "B": "B", "E": "E, irreducible loss", "alpha": "alpha", "beta": "beta"}


def fit(
    file: str,
    exclude: Sequence[str] = (),
    bootstrap: int = SAMPLES,
    seed: int = SEED,
    compute: Any = None,
    plot: str | None = None,
    progress: bool = False,
) -> tuple[Report, Figure | None]:
    """L(N, D) = E + A/N**alpha + B/D**beta fitted to the runs of a CSV file, and the figure ``plot`` asks for.

    file       columns params, tokens or train_flop, loss (nats a token)
    exclude    rules of :func:`estimator.chinchilla.runs.exclude`: ``fewest-tokens-per-param=5``
    bootstrap  resamples for the 95% intervals; 0 for none. ``seed`` fixes them
    compute    FLOPs at which the fitted frontier is read
    progress   True draws a bar on standard error where that is a terminal

    Raises InputError for files that are not runs, runs that determine no law, and where numpy and scipy are missing.
    """
    C = DEFAULT_COMPUTE if compute is None else size(compute, "--compute")
    if not 0 <= bootstrap <= MOST_SAMPLES or bootstrap == 1:
        raise InputError(f"--bootstrap must be 0 or 2 to {MOST_SAMPLES:,} resamples, got {bootstrap}")
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed must be a whole number in [0, 2**63), got {seed}")
    if plot:
        from estimator.chinchilla import plots

        plots.check(plot, plots.FIT_KINDS)
    every = runs.read(file)
    kept, left, said = runs.exclude(every, exclude)
    runs.check(kept, file if not left else f"{file} after --exclude")
    engine = _engine()
    best = engine.fit(kept, progress=_bar("starts", progress))
    drawn = engine.bootstrap(kept, best, bootstrap, seed, _bar("bootstrap", progress)) if bootstrap else {}
    ranges = {k: engine.interval(v, LEVEL) for k, v in drawn.items() if len(v) > 1}
    law = Law(
        id="fit",
        name=file,
        set="fitted",
        where=file,
        cite=HOFFMANN_D2,
        parametric=Parametric(**{k: best.values[k] for k in KEYS}),
    )
    notes = _warnings(best, drawn, bootstrap)
    body: list[Node | Table] = [_coefficients(best.values, ranges), _quality(best, kept, every)]
    body += [_frontier(law, C, drawn, engine)]
    facts: dict[str, Any] = {f"{k}.{side}": None for k in KEYS for side in ("low", "high") if k not in ranges}
    assumptions = [
        "parameters and tokens as the file gives them; tokens = train_flop / (6 params) where it gives none",
        f"Huber loss of log L with delta = {engine.HUBER_DELTA:g}; L-BFGS from {best.starts} starts, "
        "the most promising of the paper's grid and some spread over the rest",
        *(said or ["no runs left out"]),
        *(
            [f"intervals: central {LEVEL:.0%} of {bootstrap} bootstrap refits, seed {seed}"]
            if bootstrap
            else ["no bootstrap, so no intervals"]
        ),
        *notes,
    ]
    inputs = {"file": file, "exclude": list(exclude), "bootstrap": bootstrap, "seed": seed, "compute": C}
    title = f"L(N, D) = E + A/N**alpha + B/D**beta fitted to {len(kept)} runs of {Path(file).name}"
    figure = None
    if plot:
        figure = plots.of_fit(plot, replace(law, id="fit", set=f"{len(kept)} runs"), kept, left)
    report = Report(
        "chinchilla fit", title, inputs, tuple(body), facts, tuple(assumptions), (HOFFMANN_D2, BESIROGLU), tuple(notes),
        hidden=_hidden(best.values, ranges),
    )  # fmt: skip
    return report, figure


def _engine() -> Any:
    try:
        from estimator.chinchilla import fit as engine
    except ImportError as error:
        missing = (error.name or "numpy").split(".")[0]
        raise InputError(f"chinchilla fit needs {missing}: pip install 'llmcalc-estimator[fit]'") from None
    return engine


def _coefficients(values: dict[str, float], ranges: dict[str, tuple[float, float]]) -> Table:
    columns = ("", "value", "low", "high") if ranges else ("", "value")
    rows: list[tuple[str | Cell | None, ...]] = []
    for key in KEYS:
        rows.append((_LABELS[key], *(Cell(v, RATIO) for v in (values[key], *ranges.get(key, ())))))
    return Table("Coefficients" + (f" and their {LEVEL:.0%} intervals" if ranges else ""), columns, tuple(rows))


def _hidden(values: dict[str, float], ranges: dict[str, tuple[float, float]]) -> tuple[Node, ...]:
    """The quantities of the table of coefficients, under their keys."""
    out = []
    for key in KEYS:
        unit = NATS if key == "E" else RATIO
        out.append(Node(key, _LABELS[key], values[key], unit))
        for side, bound in zip(("low", "high"), ranges.get(key, ()), strict=False):
            out.append(Node(f"{key}.{side}", f"{_LABELS[key]}, {side}", bound, unit))
    return tuple(out)


def _quality(best: Any, kept: Sequence[Any], every: Sequence[Any]) -> Node:
    residuals = [100 * r for r in best.residuals]
    worst = max(range(len(kept)), key=lambda i: abs(residuals[i]))
    rms = math.sqrt(sum(r * r for r in residuals) / len(residuals))
    rows = [
        Node("runs", "Runs fitted", len(kept), COUNT, note=f"of {len(every)}"),
        Node("residual.rms", "Residual of log loss, root mean square", rms, PERCENT),
        Node("residual.worst", "Largest residual", residuals[worst], PERCENT, note=f"line {kept[worst].line}"),
        Node("objective", "Huber objective", best.objective, RATIO),
        Node("starts_agreed", "Starts that ended at this optimum", int(best.agreed), COUNT, note=f"of {best.starts}"),
    ]
    return Node.group("Fit", rows)


def _frontier(law: Law, C: Any, drawn: dict[str, list[float]], engine: Any) -> Node:
    p = law.parametric
    assert p is not None
    N, D = law.n_opt(C), law.d_opt(C)
    if not (0 < N < math.inf and 0 < D < math.inf):
        raise InputError(f"these runs determine no law: at {C:.4g} FLOPs it wants {N:.3g} parameters, {D:.3g} tokens")
    spread = (
        [
            _ratio(Parametric(**dict(zip(KEYS, sample, strict=True))), C)
            for sample in zip(*(drawn[k] for k in KEYS), strict=True)
        ]
        if drawn
        else []
    )
    spread = [r for r in spread if 0 < r < math.inf]
    note = "{:.3g} to {:.3g}".format(*engine.interval(spread, LEVEL)) if len(spread) > 1 else ""
    rows = [
        Node.of("a", "a, exponent of N_opt", f.scaling_a, p.alpha, p.beta),
        Node.of("b", "b, exponent of D_opt", f.scaling_b, p.alpha, p.beta),
        Node("N_opt", "Optimal parameters", N, f.PARAMETERS, formula=f.optimal_params),
        Node("D_opt", "Optimal tokens", D, f.TOKENS, formula=f.optimal_tokens),
        Node("tokens_per_param", "Tokens a parameter", D / N, RATIO, note=note),
        Node("loss", "Loss", law.frontier_loss(C), NATS),
    ]
    return Node.group(f"Frontier at {C:.4g} FLOPs", rows)


def _ratio(p: Parametric, C: float) -> float:
    try:
        g = f.scaling_g(*p.shape)
        return float(
            (C / laws.FLOPS_PER_PARAM_TOKEN) ** (f.scaling_b(p.alpha, p.beta) - f.scaling_a(p.alpha, p.beta)) / g**2
        )
    except (OverflowError, ZeroDivisionError, TypeError):
        return math.nan


def _warnings(best: Any, drawn: dict[str, list[float]], samples: int) -> list[str]:
    out = []
    if best.agreed < 3:
        out.append(
            f"only {best.agreed} of {best.starts} starts ended at this optimum: the runs hardly determine the law"
        )
    lost = samples - len(drawn.get("A", ())) if samples else 0
    if lost:
        out.append(
            f"{lost} of {samples} bootstrap refits did not end at finite coefficients and are left out of the intervals"
        )
    return out


def _bar(word: str, wanted: bool) -> Callable[[int, int], None] | None:
    """A progress bar on standard error, at most ten times a second; nothing where that is not a terminal."""
    if not wanted or not sys.stderr.isatty():
        return None
    last = 0.0

    def show(done: int, whole: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < whole and now - last < 0.1:
            return
        last = now
        full = 30 * done // whole
        print(
            f"\r{word} {'█' * full}{'·' * (30 - full)} {done}/{whole}",
            end="" if done < whole else "\r\033[K",
            file=sys.stderr,
            flush=True,
        )

    return show
