"""Fit the constants of a GPU preset's ``[measured.kernels]`` to measured step times, and print every error.

    python benchmarks/fit_times.py [tests/accuracy/step_times.json] [--gpu h100-sxm] [--folds 5]

Least squares of the logarithm of predicted over measured seconds (soft L1 from 0.5%: nearly absolute errors, as it is
their medians that are printed). With --folds the models are dealt to as many groups, and each group is predicted by
constants fitted to the others; --only fits some of the constants (those of kernels, not of products:
elements,welford,launch_gradient). Needs scipy. The file:
``{"configs": {name: config.json}, "cases": [{"kind": "train" or "infer", "model", "batch", "seq", "lora",
"checkpoint", "step_s", "prefill_s", "decode_graph_s", "set"}]}``; a model without a config is a preset.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from estimator.commands.flops.passes import plan
from estimator.commands.flops.question import Flops
from estimator.commands.train.question import Train
from estimator.commands.train.run import Run
from estimator.commands.train.step import run_once, step_times
from estimator.models import load_model
from estimator.parallel.degrees import Degrees
from estimator.questions import ask
from estimator.recipes import find_recipe
from estimator.roofline import Accelerator, machine
from estimator.serving import setup
from estimator.serving.step import decode, prefill
from estimator.trace import value_of

HERE = Path(__file__).resolve().parent
CASES = HERE.parent / "tests" / "accuracy" / "step_times.json"
FITTED = {  # field of the machine -> field of the preset and its unit
    "fixed": ("fixed_us", 1e-6), "launch_gradient": ("launch_gradient_us", 1e-6),
    "elements": ("strided_g_elements_s", 1e9), "welford": ("layer_norm_g_elements_s", 1e9),
    "gradient": ("gradient", 1), "adapter": ("adapter", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Time:
    """One measured time, and how it is predicted on a machine."""

    model: str
    run: str
    name: str
    seconds: float
    predict: Callable[[Accelerator], float]

    def error(self, m: Accelerator) -> float:
        return self.predict(m) / self.seconds - 1


def times(data: dict[str, Any], gpu: str) -> Iterator[Time]:
    """Every measured time of a file. A decode step of grouped queries is left out: that stack copies its cache."""
    with tempfile.TemporaryDirectory() as folder:
        for c in data["cases"]:
            name = c["model"]
            if name in data["configs"]:
                path = Path(folder) / f"{name}.json"
                path.write_text(json.dumps(data["configs"][name]))
                name = str(path)
            yield from _case(c, load_model(name), gpu)


def _case(c: dict[str, Any], model: Any, gpu: str) -> Iterator[Time]:
    b, s, of = c["batch"], c["seq"], (c["model"], c["set"])
    label = f"{c['kind']} {c['model']} {b} x {s}" + "".join(f", {k}" for k in ("lora", "checkpoint") if c.get(k))
    if c["kind"] == "train":
        how: dict[str, Any] = {"checkpointing": "full" if c.get("checkpoint") else "none"}
        how |= {"method": "lora", "rank": 16, "targets": "all-linear"} if c.get("lora") else {}
        made = plan(ask(Flops, model, {"mode": "training", "uncapped": True, "batch_size": b, "seq_len": s, **how}))
        recipe = find_recipe("torch-bf16")
        run = Run(ask(Train, model), Degrees(1))
        ops = run_once(made, recipe, run, "bf16")

        def step(m: Accelerator) -> float:
            return float(step_times(made, recipe, run, m, "bf16", ops).total)

        yield Time(*of, label, c["step_s"], step)
        return
    serve, _ = setup.setup(model, gpu, 1, "bf16", None, "none", "transformers", True)
    yield Time(
        *of, f"{label}, prefill", c["prefill_s"],
        lambda m: float(value_of(prefill(replace(serve, machine=m), b, s).total)),
    )  # fmt: skip
    if "decode_graph_s" in c and all(getattr(g.mixer, "kv_heads", 1) == getattr(g.mixer, "heads", 1)
                                     for g in serve.arch.layers):  # fmt: skip
        yield Time(
            *of, f"{label}, decode", c["decode_graph_s"],
            lambda m: float(value_of(decode(replace(serve, machine=m), b, s + 4).total)),
        )  # fmt: skip


def fit(found: list[Time], m: Accelerator, only: Collection[str], say: bool = True) -> Accelerator:
    """The machine whose constants fit best; prints each with its standard error. ``only``: these constants."""
    fitted = {n: f for n, f in FITTED.items() if n in only}

    def at(x: Any) -> Accelerator:
        return replace(m, **{n: getattr(m, n) * float(np.exp(v)) for n, v in zip(fitted, x, strict=True)})

    r = least_squares(
        lambda x: [np.log1p(t.error(at(x))) for t in found], np.zeros(len(fitted)), loss="soft_l1", f_scale=0.005
    )
    spread = np.sqrt(
        np.maximum(0, np.diag(np.linalg.pinv(r.jac.T @ r.jac))) * np.sum(r.fun**2) / (len(found) - len(fitted))
    )
    best = at(r.x)
    for (field, (key, unit)), e in zip(fitted.items(), spread, strict=True):
        if say:
            print(f"{key} = {getattr(best, field) / unit:.4g}  # +- {e:.0%}")
    return best


def folds(found: list[Time], m: Accelerator, only: Collection[str], count: int) -> list[tuple[Time, float]]:
    """Each time with its error under constants fitted to other models."""
    models = sorted({t.model for t in found})
    out = []
    for i in range(count):
        held = set(models[i::count])
        best = fit([t for t in found if t.model not in held], m, only, say=False)
        out += [(t, t.error(best)) for t in found if t.model in held]
    return out


def table(errors: list[tuple[Time, float]]) -> None:
    """Every error, and their medians by the run that measured them."""
    for t, e in errors:
        print(f"{e:+8.2%}  {1e3 * t.seconds:9.2f} ms  {t.run:6}  {t.name}")
    for run in sorted({t.run for t, _ in errors}):
        part = sorted(abs(e) for t, e in errors if t.run == run)
        most = part[round(0.9 * (len(part) - 1))]
        print(f"{run} run: {len(part)} times, median error {median(part):.1%}, 90% {most:.1%}, largest {part[-1]:.1%}")


def main() -> None:
    ask = argparse.ArgumentParser()
    ask.add_argument("file", nargs="?", default=str(CASES))
    ask.add_argument("--gpu", default="h100-sxm")
    ask.add_argument("--folds", type=int, help="also predict groups of models from the others")
    ask.add_argument("--only", default=",".join(FITTED), help="constants to fit, the others kept")
    given = ask.parse_args()
    found = list(times(json.loads(Path(given.file).read_text()), given.gpu))
    preset = machine(given.gpu)
    print("with the preset's constants:")
    table([(t, t.error(preset)) for t in found])
    print("fitted:")
    best = fit(found, preset, given.only.split(","))
    table([(t, t.error(best)) for t in found])
    if given.folds:
        print("each model from the others:")
        table(folds(found, preset, given.only.split(","), given.folds))


if __name__ == "__main__":
    main()
