"""Fit the constants of a GPU preset's ``[measured.kernels]`` to measured step times, and print every error.

    python benchmarks/fit_times.py [tests/accuracy/step_times.json] [--gpu h100-sxm] [--all]

Least squares of the logarithm of predicted over measured seconds, over the cases marked ``"set": "fit"`` (with
``--all``, over all of them); the other cases are predictions. Needs scipy. The file: ``{"configs": {name: config.json},
"cases": [{"kind": "train" or "infer", "model", "batch", "seq", "lora", "checkpoint", "step_s", "prefill_s",
"decode_graph_s", "set"}]}``; a model without a config is a preset.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from estimator.estimates.train_run import Run
from estimator.estimates.train_step import step_times
from estimator.models import load_model
from estimator.parallel.degrees import Degrees
from estimator.recipes import find_recipe
from estimator.roofline import Machine, machine
from estimator.serving import setup
from estimator.serving.step import decode, prefill
from estimator.trace import value_of
from estimator.work.passes import plan

HERE = Path(__file__).resolve().parent
CASES = HERE.parent / "tests" / "accuracy" / "step_times.json"
FITTED = {  # field of the machine -> field of the preset and its unit
    "fixed": ("fixed_us", 1e-6), "launch": ("launch_us", 1e-6), "launch_gradient": ("launch_gradient_us", 1e-6),
    "elements": ("strided_g_elements_s", 1e9), "gradient": ("gradient", 1), "attention_gradient": (
        "attention_gradient", 1), "adapter": ("adapter", 1), "unaligned": ("unaligned", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Time:
    """One measured time, and how it is predicted on a machine."""

    name: str
    seconds: float
    fitted: bool
    predict: Callable[[Machine], float]

    def error(self, m: Machine) -> float:
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
    b, s, fitted = c["batch"], c["seq"], c["set"] == "fit"
    label = f"{c['kind']} {c['model']} {b} x {s}" + "".join(f", {k}" for k in ("lora", "checkpoint") if c.get(k))
    if c["kind"] == "train":
        how: dict[str, Any] = {"checkpointing": "full" if c.get("checkpoint") else "none"}
        how |= {"method": "lora", "rank": 16, "targets": "all-linear"} if c.get("lora") else {}
        made = plan(model, mode="training", batch_size=b, seq_len=s, **how)
        recipe = find_recipe("torch-bf16")

        def step(m: Machine) -> float:
            return float(step_times(made, recipe, Run(), m, Degrees(1), "adamw-fused", "bf16", "none").total)

        yield Time(label, c["step_s"], fitted, step)
        return
    serve, _ = setup.setup(model, gpu, 1, "bf16", None, "none", "transformers", True)
    yield Time(
        f"{label}, prefill", c["prefill_s"], fitted,
        lambda m: float(value_of(prefill(replace(serve, machine=m), b, s).total)),
    )  # fmt: skip
    if "decode_graph_s" in c and all(getattr(g.mixer, "kv_heads", 1) == getattr(g.mixer, "heads", 1)
                                     for g in serve.arch.layers):  # fmt: skip
        yield Time(
            f"{label}, decode", c["decode_graph_s"], fitted,
            lambda m: float(value_of(decode(replace(serve, machine=m), b, s + 4).total)),
        )  # fmt: skip


def fit(found: list[Time], m: Machine) -> Machine:
    """The machine whose constants fit best; prints each with its standard error."""

    def at(x: Any) -> Machine:
        return replace(m, **{n: getattr(m, n) * float(np.exp(v)) for n, v in zip(FITTED, x, strict=True)})

    r = least_squares(
        lambda x: [np.log1p(t.error(at(x))) for t in found], np.zeros(len(FITTED)), loss="soft_l1", f_scale=0.03
    )
    spread = np.sqrt(np.diag(np.linalg.pinv(r.jac.T @ r.jac)) * np.sum(r.fun**2) / (len(found) - len(FITTED)))
    best = at(r.x)
    for (field, (key, unit)), e in zip(FITTED.items(), spread, strict=True):
        print(f"{key} = {getattr(best, field) / unit:.4g}  # +- {e:.0%}")
    return best


def table(found: list[Time], m: Machine) -> None:
    """Every error, and their medians."""
    for t in found:
        print(f"{t.error(m):+8.2%}  {1e3 * t.seconds:9.2f} ms  {'fit' if t.fitted else '   '}  {t.name}")
    for name, part in (("fitted", [t for t in found if t.fitted]), ("held out", [t for t in found if not t.fitted])):
        if part:
            errors = [abs(t.error(m)) for t in part]
            print(f"{name}: {len(part)} times, median error {median(errors):.2%}, largest {max(errors):.2%}")


def main() -> None:
    ask = argparse.ArgumentParser()
    ask.add_argument("file", nargs="?", default=str(CASES))
    ask.add_argument("--gpu", default="h100-sxm")
    ask.add_argument("--all", action="store_true", help="fit to the held-out cases too")
    given = ask.parse_args()
    found = list(times(json.loads(Path(given.file).read_text()), given.gpu))
    table(found, machine(given.gpu))
    best = fit([t for t in found if t.fitted or given.all], machine(given.gpu))
    table(found, best)


if __name__ == "__main__":
    main()
