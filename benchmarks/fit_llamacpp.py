"""Fit the shares of estimator/engines/llamacpp/backend.py to public tables, and print their errors.

python benchmarks/fit_llamacpp.py [--held]    --held: leave each GPU out in turn, and print the errors on it
Reads tests/engines/llamacpp_speed.json. The bytes, products and kernels of a pass do not depend on what is fitted, so
they are counted once; then each share is moved by small factors as long as the mean error falls.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

from estimator.engines.llamacpp import backend, timing
from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.placement import Placement
from estimator.engines.llamacpp.weights import of_mix
from estimator.families.gguf import gguf_of
from estimator.models import load_model
from estimator.presets import load_gpu

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests" / "engines" / "llamacpp_speed.json"
FITTED = ("read", "cached", "plain", "packed", "launch")
STEPS = (0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.25)
MOST = 1.0  # no share is more than all
UBATCH = 512


def counted(row):
    """(row, places, mix, [(times, tokens, work)]): what a measured row does."""
    _, gpu, name, mix, test, n, _ = row
    arch = load_model(name).architecture
    weights = of_mix(arch, mix, False)
    place = Placement(len(weights.layers), len(weights.layers) + 1, (1.0,))
    load = Load(name, arch, gguf_of(arch.model_type), Context(n + 1, flash=False, outputs=1), weights, place)
    places = (backend.host_of("90GB/s"), backend.place_of(load_gpu(gpu)))
    passes = [(1, 1, n / 2)] if test == "tg" else [(n // UBATCH, UBATCH, (n - UBATCH) / 2)]
    work = [(times, t, timing._shares(load, places, t, cached, 1)) for times, t, cached in passes]
    return row, places, mix, work


def predicted(case, rates):
    """Tokens a second of a case with these rates by name."""
    row, places, mix, work = case
    total = 0.0
    for times, tokens, shares in work:
        for share, place in zip(shares, places, strict=True):
            made = replace(place, rates=rates.get(key(place), place.rates))
            total += times * timing._seconds(share, made, mix not in timing.PLAIN_MIXES, tokens).total
    return (row[5] if row[4] == "pp" else 1) / total


def key(place):
    return next((n for n in ("CUDA", "CUDA_HBM", "METAL") if getattr(backend, n) is place.rates), "")


def errors(cases, rates):
    return [math.log(predicted(c, rates) / c[0][6]) for c in cases]


def fit(cases, rates):
    """Coordinate descent on the mean absolute error of the logarithm."""
    best = mean(map(abs, errors(cases, rates)))
    moved = True
    while moved:
        moved = False
        for name in rates:
            for field in FITTED:
                for step in STEPS:
                    value = getattr(rates[name], field) * step
                    if field != "launch" and value > MOST:
                        continue
                    tried = rates | {name: replace(rates[name], **{field: value})}
                    now = mean(map(abs, errors(cases, tried)))
                    if now < best - 1e-5:
                        rates, best, moved = tried, now, True
    return rates


def said(title, found):
    e = sorted(abs(math.expm1(x)) for x in found)
    print(f"{title:24s} {len(e):3d} rows  median {median(e):6.1%}  90% {e[int(0.9 * len(e))]:6.1%}  worst {e[-1]:6.1%}")


def main():
    cases = [counted(row) for row in json.loads(DATA.read_text())["rows"]]
    start = {n: getattr(backend, n) for n in ("CUDA", "CUDA_HBM", "METAL")}
    for test in ("tg", "pp"):
        said(f"as they stand, {test}", errors([c for c in cases if c[0][4] == test], start))
    if "--held" in sys.argv:
        found = []
        for gpu in sorted({c[0][1] for c in cases}):
            rates = fit([c for c in cases if c[0][1] != gpu], start)
            found += errors([c for c in cases if c[0][1] == gpu], rates)
        said("each GPU left out", found)
        return
    for name, rates in fit(cases, start).items():
        print(name, {f: float(f"{getattr(rates, f):.3g}") for f in FITTED})


if __name__ == "__main__":
    main()
