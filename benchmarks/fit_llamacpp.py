"""Fit the rates of estimator/engines/llamacpp/rates.py to public tables, and print their errors.

python benchmarks/fit_llamacpp.py [--held]    --held: leave each GPU out in turn, and print and write the errors on it
Reads tests/engines/llamacpp_speed.json, writes docs/held_out.json. The bytes, products and kernels of a pass do not
depend on what is fitted, so they are counted once; then each rate is moved by small factors as long as the error falls:
of every GPU the mean absolute logarithm, weighed by the root of its rows, so that a card with many rows does not decide
alone.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median, quantiles

from estimator.engines.llamacpp import timing
from estimator.engines.llamacpp.backend import host_of, place_of
from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.placement import Placement
from estimator.engines.llamacpp.rates import FITTED, OLD, RECENT
from estimator.engines.llamacpp.weights import of_mix
from estimator.families.common_gguf import gguf_of
from estimator.models import load_model
from estimator.presets import load_gpu

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests" / "engines" / "llamacpp_speed.json"
ROUNDS = ((1.25, 1.1), (1.06, 1.03), (1.015,))
SHARES = ("read", "cached", "moved", "plain", "blocks", "packed")  # no share is more than MOST
MOST = 0.96
KEPT = ("launch.older", "cuda.plain")  # for architectures that have no row of their own
CHECKED = "2024-01"  # rows of a P40 that the rates were compared with, and not fitted to (docs/engines/llamacpp.md)
RECORD = HERE.parent / "docs" / "held_out.json"
UBATCH = 512
_COUNTED = {}


def counted(row):
    """(row, build, [(times, tokens, work)]): what a measured row does. The work of equal loads is counted once."""
    when, gpu, name, mix, test, n, flash, _ = row
    key = (name, mix, test, n, flash)
    if key not in _COUNTED:
        arch = load_model(name).architecture
        weights = of_mix(arch, mix, False)
        place = Placement(len(weights.layers), len(weights.layers) + 1, (1.0,))
        load = Load(name, arch, gguf_of(arch), Context(n + 1, flash=flash, outputs=1), weights, place)
        places = (host_of("90GB/s"), place_of(load_gpu(gpu)))
        passes = [(1, 1, n / 2)] if test == "tg" else [(max(1, n // UBATCH), min(n, UBATCH), max(0, n - UBATCH) / 2)]
        _COUNTED[key] = [(times, t, timing._shares(load, places, t, cached, 1)[1]) for times, t, cached in passes]
    return row, RECENT if when == "2025" else OLD, _COUNTED[key]


def predicted(case, at):
    """Seconds of a case with the rates ``at``: of a token, or of the prompt."""
    row, build, work = case
    place = place_of(load_gpu(row[1]), build, at)
    return sum(times * timing._seconds(s, place, row[3], tokens, row[6]).total for times, tokens, s in work)


def errors(cases, at):
    """Logarithms of predicted over measured seconds."""
    return [math.log(predicted(c, at) * c[0][7] / (c[0][5] if c[0][4] == "pp" else 1)) for c in cases]


class Asked(dict):
    """Rates that remember which of them were read."""

    def __init__(self, rates):
        super().__init__(rates)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)


def dependent(cases, at):
    """{rate: indices of the cases that depend on it}."""
    found = defaultdict(list)
    for i, c in enumerate(cases):
        seen = Asked(at)
        predicted(c, seen)
        for name in sorted(seen.read & set(at)):  # in one order: the descent depends on it
            found[name].append(i)
    return found


def fit(cases, start):
    """Coordinate descent from ``start``; a rate that no case asks for stays as it is."""
    rows = Counter(c[0][1] for c in cases)
    weights = [rows[c[0][1]] ** -0.5 for c in cases]
    at, of = dict(start), dependent(cases, start)
    loss = [abs(e) * w for e, w in zip(errors(cases, at), weights, strict=True)]
    for steps in ROUNDS:
        moved = True
        while moved:
            moved = False
            for name, mine in of.items():
                for factor in [f for s in steps for f in (s, 1 / s)]:
                    value = at[name] * factor
                    if name.split(".")[1] in SHARES and value > MOST:
                        continue
                    part = [cases[i] for i in mine]
                    new = [abs(e) * weights[i] for e, i in zip(errors(part, at | {name: value}), mine, strict=True)]
                    if sum(new) < sum(loss[i] for i in mine) - 1e-5:
                        at[name], moved = value, True
                        for i, x in zip(mine, new, strict=True):
                            loss[i] = x
    return at


def held(cases):
    """Errors of every case with its GPU left out.

    An architecture without rows has no rates then: it takes its neighbour's. Every fit starts 10% off.
    """
    out = {}
    for gpu in sorted({c[0][1] for c in cases}):
        rest = [c for c in cases if c[0][1] != gpu]
        have = {*dependent(rest, FITTED), *KEPT}
        at = fit(rest, {n: v if n in KEPT else v / 1.1 for n, v in FITTED.items() if n in have})
        mine = [i for i, c in enumerate(cases) if c[0][1] == gpu]
        out |= dict(zip(mine, errors([cases[i] for i in mine], at), strict=True))
    return [out[i] for i in range(len(cases))]


def said(title, found):
    """Print and return (title, rows, median, nine of ten, worst)."""
    e = sorted(abs(math.expm1(x)) for x in found)
    line = (title, len(e), median(e), e[int(0.9 * len(e))], e[-1])
    print(f"{title:34s} {len(e):3d} rows  median {line[2]:6.1%}  90% {line[3]:6.1%}  worst {line[4]:6.1%}")
    return line


def groups(cases, found, title):
    """Print and return the errors by kind of row."""
    parts = defaultdict(list)
    for (row, build, _), e in zip(cases, found, strict=True):
        back = load_gpu(row[1]).vendor
        parts[f"{back}, builds of {build}, {row[4]}" if row[0] != "localscore" else "LocalScore, tg"].append(e)
    print(title)
    return [*(said(name, parts[name]) for name in sorted(parts)), said("all", found)]


def main():
    cases = [counted(row) for row in json.loads(DATA.read_text())["rows"] if row[0] != CHECKED]
    if "--held" in sys.argv:
        found = held(cases)
        lines = groups(cases, found, "each GPU left out")
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        made = {"what": f"each of {len({c[0][1] for c in cases})} GPUs left out in turn", "rows": lines}
        RECORD.write_text(json.dumps(record | {"llama.cpp": made}, indent=1) + "\n")
        at = quantiles([math.exp(-e) for e in found], n=20)
        print("measured over estimated:", {f"{5 * (i + 1)}%": round(at[i], 3) for i in (0, 4, 14, 18)})
        return
    at = fit(cases, FITTED)
    groups(cases, errors(cases, FITTED), "as they stand")
    groups(cases, errors(cases, at), "fitted")
    print({name: float(f"{value:.3g}") for name, value in at.items()})


if __name__ == "__main__":
    main()
