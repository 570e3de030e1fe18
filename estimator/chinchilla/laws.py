"""Scaling laws by name: ``presets/laws/<id>.toml``, or coefficients of the user's own.

A law is either parametric, L(N, D) = E + A/N**alpha + B/D**beta, whose frontier follows by calculus, or a frontier
fitted directly as a power of C. A preset holds several sets of coefficients (``printed``, ``unrounded``, ``table``):
the rounding alone moves the answer by a factor of several at large budgets, so the set is always printed.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from estimator import presets
from estimator.alike import add_up, exp, log
from estimator.errors import InputError, unknown
from estimator.formula import Citation
from estimator.formulas import scaling as f
from estimator.headers import regular_file
from estimator.records import dataclass
from estimator.texts import too_long

FLOPS_PER_PARAM_TOKEN = 6  # Kaplan et al. 2020, section 2.1: 2 forward, 4 backward
MAX_FILE = 1 << 20
_LIMITS = {
    "E": (0.0, 1e3),
    "A": (0.0, 1e15),
    "B": (0.0, 1e15),
    "alpha": (0.01, 5.0),
    "beta": (0.01, 5.0),
    "C0": (0.0, 1e3),
}


@dataclass(frozen=True, slots=True)
class Parametric:
    """L(N, D) = E + A/N**alpha + B/D**beta in nats a token; coefficients are floats or traced numbers."""

    E: Any
    A: Any
    B: Any
    alpha: Any
    beta: Any

    def loss(self, N: Any, D: Any) -> Any:
        return f.parametric_loss(N, D, self.E, self.A, self.B, self.alpha, self.beta)

    @property
    def shape(self) -> tuple[Any, Any, Any, Any]:
        """The coefficients that decide the frontier: A, B, alpha, beta."""
        return self.A, self.B, self.alpha, self.beta


@dataclass(frozen=True, slots=True)
class Power:
    """coefficient * (C/unit)**exponent."""

    coefficient: Any
    exponent: Any
    unit: Any = 1

    def at(self, C: Any) -> Any:
        return f.power_law(C, self.coefficient, self.exponent, self.unit)

    def inverse(self, value: Any) -> Any:
        return f.power_law_inverse(value, self.coefficient, self.exponent, self.unit)


@dataclass(frozen=True, slots=True)
class Law:
    """One law with one set of coefficients.

    parametric   the loss it was fitted as, where it is parametric
    params       N_opt as a power of C, tokens: D_opt; where only one is given the other follows from C = C0 N D
    loss_power   the loss along the frontier, where that was fitted (Kaplan)
    borrowed     another law's loss, for a frontier that comes without one; ``borrowed_from`` names it
    """

    id: str
    name: str
    set: str
    where: str
    cite: Citation
    C0: Any = FLOPS_PER_PARAM_TOKEN
    parametric: Parametric | None = None
    params: Power | None = None
    tokens: Power | None = None
    loss_power: Power | None = None
    borrowed: Parametric | None = None
    borrowed_from: str = ""
    counts: str = ""
    note: str = ""
    interval95: Mapping[str, tuple[float, float]] | None = None

    @property
    def label(self) -> str:
        return f"{self.id} ({self.set})"

    def n_opt(self, C: Any) -> Any:
        """Optimal parameters at C FLOPs."""
        if self.parametric:
            return f.optimal_params(C, self.C0, *self.parametric.shape)
        return self.params.at(C) if self.params else C / (self.C0 * self.d_opt(C))

    def d_opt(self, C: Any) -> Any:
        """Optimal tokens at C FLOPs."""
        if self.parametric:
            return f.optimal_tokens(C, self.C0, *self.parametric.shape)
        return self.tokens.at(C) if self.tokens else C / (self.C0 * self.n_opt(C))

    def c_of_params(self, N: Any) -> Any:
        """The budget for which N parameters are optimal."""
        if self.parametric:
            return f.compute_of_params(N, self.C0, *self.parametric.shape)
        return (self.params or self._other(self.tokens)).inverse(N)

    def c_of_tokens(self, D: Any) -> Any:
        """The budget for which D tokens are optimal."""
        if self.parametric:
            return f.compute_of_tokens(D, self.C0, *self.parametric.shape)
        return (self.tokens or self._other(self.params)).inverse(D)

    def _other(self, given: Power | None) -> Power:
        # X = k (C/u)**x and C = C0 X Y  =>  Y = u/(C0 k) (C/u)**(1-x)
        assert given is not None
        return Power(given.unit / (self.C0 * given.coefficient), 1 - given.exponent, given.unit)

    def loss(self, N: Any, D: Any) -> Any:
        """L(N, D), or None where the law has no loss for any N and D."""
        law = self.parametric or self.borrowed
        return law.loss(N, D) if law else None

    def frontier_loss(self, C: Any) -> Any:
        """The loss of the optimum at C FLOPs, or None."""
        if self.loss_power:
            return self.loss_power.at(C)
        return self.loss(self.n_opt(C), self.d_opt(C))

    @property
    def any_loss(self) -> Parametric | None:
        return self.parametric or self.borrowed


def names() -> tuple[str, ...]:
    """The ids of every law."""
    return presets.ids("laws")


def load(name: str, chosen: str | None = None) -> Law:
    """A preset law with its default set of coefficients, or the set called ``chosen``."""
    if name not in names():
        raise unknown("law", name, (*names(), "all"))
    _, data = presets.read("laws", name)
    pick = chosen or data["default"]
    if pick not in data["sets"]:
        raise InputError(f"--coefficients {pick}: law {name} has {', '.join(data['sets'])}")
    raw = data["sets"][pick]
    law = Law(
        id=name, name=data["name"], set=pick, where=raw["where"], cite=Citation(data["source"], data["url"]),
        counts=data.get("counts", ""), note=data.get("note", ""),
    )  # fmt: skip
    law = replace(law, **_form(raw))
    if "interval95" in raw:
        law = replace(law, interval95={k: (v[0], v[1]) for k, v in raw["interval95"].items()})
    if law.any_loss is None and "loss_from" in data:
        law = replace(law, borrowed=load(data["loss_from"]).parametric, borrowed_from=data["loss_from"])
    return law


def every_set() -> list[Law]:
    """Every law with every one of its sets of coefficients, the default first."""
    out = []
    for name in names():
        _, data = presets.read("laws", name)
        sets = sorted(data["sets"], key=lambda s: s != data["default"])
        out += [load(name, s) for s in sets]
    return out


def _form(raw: Mapping[str, Any]) -> dict[str, Any]:
    if "alpha" in raw:
        return {"parametric": Parametric(**{c.name: float(raw[c.name]) for c in fields(Parametric)})}
    if "rows" in raw:
        slope = regress(raw["rows"])
        return {
            "params": _power({"exponent": slope.exponent, "through": raw["through"]}) if "through" in raw else slope
        }
    return {
        {"params": "params", "tokens": "tokens", "loss": "loss_power"}[key]: _power(raw[key])
        for key in ("params", "tokens", "loss")
        if key in raw
    }


def _power(raw: Mapping[str, Any]) -> Power:
    if "through" in raw:  # the exponent is known, the coefficient follows from one published point
        value, compute = raw["through"]
        return Power(value / compute ** raw["exponent"], raw["exponent"])
    return Power(raw["coefficient"], raw["exponent"], raw.get("unit_flops", 1))


def regress(rows: list[list[float]]) -> Power:
    """N = k C**a by least squares through the logarithms of ``[parameters, FLOPs]`` rows."""
    x = [log(c) for _, c in rows]
    y = [log(n) for n, _ in rows]
    mx, my = add_up(x) / len(x), add_up(y) / len(y)
    slope = add_up((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / add_up((a - mx) ** 2 for a in x)
    return Power(exp(my - slope * mx), slope)


def own(text: str) -> Law:
    """A law of the user's own: ``E=1.8,A=480,B=2090,alpha=.35,beta=.37`` or a .toml or .json file with these.

    A report of ``llmcalc chinchilla fit --format json`` is such a file. ``C0`` (6) may be given too.
    """
    if "=" in text:
        raw: dict[str, Any] = {}
        for item in text.split(","):
            name, _, value = (p.strip() for p in item.partition("="))
            if name in raw:
                raise InputError(f"--coefficients: {name} is given twice")
            raw[name] = value
        return _checked(raw, "--coefficients", "your own")
    path = Path(text)
    if path.suffix not in (".toml", ".json"):
        raise InputError(
            "--coefficients: expected printed, unrounded, table, E=..,A=..,B=..,alpha=..,beta=.. "
            f"or a .toml or .json file, got {text[:60]!r}"
        )
    return _checked(_read(path), str(path), path.stem)


def _read(path: Path) -> dict[str, Any]:
    if regular_file(path, "a file of coefficients") > MAX_FILE:
        raise InputError(f"--coefficients {path}: larger than {MAX_FILE} bytes")
    try:
        content = path.read_text(encoding="utf-8")
        data = tomllib.loads(content) if path.suffix == ".toml" else json.loads(content)
    except OSError as error:
        raise InputError(f"--coefficients {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"--coefficients {path}: {str(error)[:120]}") from None
    if isinstance(data, dict) and isinstance(data.get("results"), dict):
        data = {k: v for k, v in data["results"].items() if k in _LIMITS}
    if not isinstance(data, dict) or too_long(data):
        raise InputError(f"--coefficients {path}: must hold E, A, B, alpha, beta")
    return data


def _checked(raw: Mapping[str, Any], where: str, name: str) -> Law:
    needed = [c.name for c in fields(Parametric)]
    extra = [k for k in raw if k not in _LIMITS]
    missing = [k for k in needed if k not in raw]
    if missing or extra:
        got = f"unknown {', '.join(map(str, extra))[:60]}" if extra else f"missing {', '.join(missing)}"
        raise InputError(f"{where}: {got}. A law is E, A, B, alpha, beta (and C0, else 6)")
    values = {}
    for key, value in raw.items():
        low, high = _LIMITS[key]
        try:
            number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not (low <= number <= high) or (number == 0 and key != "E"):
            bracket = "[" if key == "E" else "("
            got = str(value)[:40]
            raise InputError(f"{where}: {key} must be a number in {bracket}{low:g}, {high:g}], got {got}")
        values[key] = number
    c0 = values.pop("C0", FLOPS_PER_PARAM_TOKEN)
    return Law(
        id="own",
        name=f"{name} coefficients" if name == "your own" else name,
        set="as given",
        where=where,
        cite=Citation(f"coefficients given in {where}"),
        C0=c0,
        parametric=Parametric(**values),
    )
