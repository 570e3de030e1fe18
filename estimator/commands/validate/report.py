"""Predictions beside measurements: the error table by group, from a file of measured cases."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from estimator.commands.memory.plan import plan, simulate
from estimator.commands.memory.question import Memory
from estimator.commands.validate.figure import GIB, errors
from estimator.config import Config
from estimator.errors import InputError, LlmcalcError
from estimator.formula import Citation
from estimator.headers import regular_file
from estimator.models import Model
from estimator.moments import THREADS
from estimator.questions import ask
from estimator.records import NamedTuple
from estimator.report import Cell, Node, Report, Table
from estimator.stack.kernels import HOPPER_WORKSPACE as CUBLAS_WORKSPACE
from estimator.trace import value_of
from estimator.units import COUNT, PERCENT

MAX_BYTES = 50_000_000
RECIPES = {"bf16": "torch-bf16", "amp": "torch-mixed", "fp32": "torch-fp32"}
KINDS = ("train", "infer")
MOST = 10**9  # of a count
BARS = (0.5, 2.0, 4.0)  # percent: median, 95th percentile, worst
MOMENTS = {
    "load": "moments.load_bytes",
    "forward": "moments.forward_bytes",
    "backward": "moments.backward_bytes",
    "step": "moments.step_bytes",
    "prefill": "moments.prefill_bytes",
    "decode": "moments.decode_bytes",
}


class Row(NamedTuple):
    """One case: its group, the relative errors in percent by moment ("peak" too), or why there is no prediction.

    peak  (predicted, measured) bytes, where the peak was measured
    """

    ident: str
    group: str
    errors: dict[str, float]
    why: str = ""
    peak: tuple[int, int] | None = None


def read(path: str) -> dict[str, Any]:
    """A file of measurements: ``{"meta", "configs": {name: config}, "cases": [...]}``, plain or gzipped JSON."""
    try:
        size = regular_file(Path(path), "a file of measurements")
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes is too large for a file of measurements")
        raw = Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(path) as packed:
                raw = packed.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                raise InputError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes")
        found = json.loads(raw)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {str(error)[:80]}") from None
    if isinstance(found, dict) and not isinstance(found.get("meta", {}), dict):
        raise InputError(f"{path}: 'meta' must be an object, got {str(found['meta'])[:40]!r}")
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("cases"), list)
        or not isinstance(found.get("configs"), dict)
    ):
        raise InputError(f"{path}: needs 'configs' and 'cases'; benchmarks/measure_memory.py writes such a file")
    return found


def load_log(path: str) -> Report | None:
    """The report on a load log of llama.cpp; None where the file is something else, or none."""
    from estimator.engines.llamacpp import log

    try:
        if not Path(path).is_file():  # said by who reads it as measurements
            return None
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_BYTES)
    except (OSError, ValueError):
        return None  # said by who reads it as measurements
    return log.validate(Path(path).name, text) if log.is_log(text) else None


def group_of(c: Mapping[str, Any]) -> str:
    """What a case is counted under."""
    if isinstance(c.get("options"), dict):
        recipe, method = c["options"].get("recipe", "trainer"), c["options"].get("method", "full")
        return f"{str(recipe)[:20]}, {str(method)[:20]}"
    if c.get("kind") == "infer":
        return "inference, nf4" if "quant" in c else "inference"
    if c.get("method") == "lora":
        name = "QLoRA" if "quant" in c else "DoRA" if c.get("dora") else "LoRA"
        return f"{name}, checkpointed" if c.get("checkpoint") else name
    if c.get("method") == "freeze":
        return "top layers only"
    if c.get("method"):
        return "other adapters"
    if c.get("checkpoint"):
        return "training, checkpointed"
    if c.get("attn") == "eager":
        return "training, eager attention"
    if c.get("optimizer", "adamw") != "adamw":
        return "training, other optimizers"
    return f"training, {c.get('precision', 'bf16')}"


def options_of(c: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``memory`` that describe a case: its own, or those that its fields stand for."""
    if isinstance(c.get("options"), dict):
        return dict(c["options"])
    out: dict[str, Any] = {
        "batch_size": c["batch"],
        "seq_len": c["seq"],
        "attention": c.get("attn", "sdpa"),
        "logits": "all" if c.get("logits_to_keep") == 0 else "last",
    }
    if c["kind"] == "train":
        out |= {"optimizer": c.get("optimizer", "adamw"), "checkpointing": "full" if c.get("checkpoint") else "none"}
    else:
        out["new_tokens"] = c.get("new_tokens", 8)
    if c.get("method") == "lora":
        out |= {"method": "dora" if c.get("dora") else "lora", "rank": c["rank"], "targets": ",".join(c["targets"])}
    elif c.get("method") == "freeze":
        out |= {"method": "freeze", "trainable_layers": c["top"]}
    elif c.get("method"):
        out |= {"method": c["method"], "args": c.get("args")}
    if "quant" in c:
        out["quantization"] = "nf4-dq" if c["quant"] else "nf4"
    return out


def _bad(c: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    """What is wrong with the fields of a case, or ""."""
    for name in ("batch", "seq", "rank", "top", "new_tokens", "workspaces"):
        if name in c and (type(c[name]) is not int or not 0 <= c[name] <= MOST):
            return f"{name} must be a whole number up to {MOST:,}, got {str(c[name])[:40]!r}"
    for name in ("kind", "model", "precision", "optimizer", "attn", "method"):
        if name in c and not (isinstance(c[name], str) or (c[name] is None and name == "method")):
            return f"{name} must be a text, got {str(c[name])[:40]!r}"
    if c["kind"] not in KINDS:
        return f"kind must be {' or '.join(KINDS)}, got {c['kind'][:40]!r}"
    if c.get("precision", "bf16") not in RECIPES:
        return f"precision must be one of {', '.join(RECIPES)}, got {c['precision'][:40]!r}"
    if not isinstance(configs.get(c["model"]), dict):
        return f"model {c['model'][:40]!r} has no config in 'configs'"
    if not isinstance(c.get("options", {}), dict):
        return f"options must be an object, got {str(c['options'])[:40]!r}"
    if not isinstance(c.get("args", {}), dict):
        return f"args must be an object, got {str(c['args'])[:40]!r}"
    targets = c.get("targets", [])
    if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
        return f"targets must be a list of names, got {str(targets)[:40]!r}"
    missing = {"lora": ("rank", "targets"), "freeze": ("top",)}.get(c.get("method") or "", ())
    if any(name not in c for name in missing):
        return f"method {c['method']} needs {' and '.join(missing)}"
    measured = c["measured"]
    numbers = [measured.get(k) for k in (*MOMENTS, "peak")] if isinstance(measured, dict) else []
    if not any(numbers):
        return f"measured must hold bytes of {', '.join(MOMENTS)} or peak, got {str(measured)[:40]!r}"
    if any(n is not None and (type(n) not in (int, float) or not 0 <= n <= MOST**2) for n in numbers):
        return f"measured must hold bytes, got {str(measured)[:40]!r}"
    return ""


def predictions(data: Mapping[str, Any]) -> Iterator[Row]:
    """A Row for every case; a case that cannot be predicted says why."""
    for c in data["cases"]:
        needs = {"kind", "model", "measured"} | (set() if isinstance(c, dict) and "options" in c else {"batch", "seq"})
        if not isinstance(c, dict) or not needs <= c.keys():
            raise InputError(f"a case needs kind, model, batch and seq (or options), and measured, got {str(c)[:60]!r}")
        ident = str(c.get("id", "?"))[:80]
        bad = _bad(c, data["configs"])
        if bad:
            raise InputError(f"case {ident}: {bad}")
        try:
            model = Model(str(c["model"]), "file", Config(data["configs"][c["model"]]))
            train = c["kind"] == "train"
            asked: dict[str, Any] = {"mode": "training" if train else "inference"}
            if train and "options" not in c:
                asked["recipe"] = RECIPES[c.get("precision", "bf16")]
            made = plan(ask(Memory, model, options_of(c) | asked))
            made.load = replace(made.load, generate=bool(c.get("generate")))  # else a loop of forward passes
            outcome = simulate(made)
            got = {k: value_of(m.peak) for k, key in MOMENTS.items() for m in outcome.moments if m.key == key}
            got["peak"] = value_of(outcome.worst.peak)
            # a process that never ran a backward pass holds one workspace, and its measurements say so
            spare = (THREADS - c.get("workspaces", THREADS)) * CUBLAS_WORKSPACE
            got = {k: v - spare for k, v in got.items()}
            want = c["measured"]
            errors = {k: 100 * (got[k] - want[k]) / want[k] for k in got if want.get(k)}
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"case {ident}: {type(error).__name__}: {str(error)[:80]}") from None
        except LlmcalcError as error:
            yield Row(ident, group_of(c), {}, str(error))
            continue
        yield Row(ident, group_of(c), errors, "", (got["peak"], want["peak"]) if want.get("peak") else None)


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of the sorted ``values`` do not exceed."""
    return values[min(len(values) - 1, max(0, round(share * len(values)) - 1))]


def summary(rows: list[Row], key: str = "peak") -> tuple[float, float, float, float]:
    """Median, 95th percentile and worst of the absolute errors, and the mean error, in percent."""
    values = sorted(abs(r.errors[key]) for r in rows if key in r.errors)
    if not values:
        return (0.0, 0.0, 0.0, 0.0)
    return median(values), percentile(values, 0.95), values[-1], mean(r.errors[key] for r in rows if key in r.errors)


def validate(
    path: str, worst: int = 10, model: str | None = None, gpu: str | None = None, engine_version: str | None = None
) -> Report:
    """The error table of a file of measurements, or of a start-up log. InputError where the file is neither.

    model, gpu, engine_version: of a log, where they are not those that it names.
    """
    from estimator.commands.validate.log import read_log, validate_log

    log = read_log(path, MAX_BYTES)
    if log is not None:
        return validate_log(log, Path(path).name, model, gpu, engine_version)
    if model is not None or gpu is not None or engine_version is not None:
        raise InputError(f"{path}: no start-up log of vLLM or SGLang; --model, --gpu and --engine-version are for one")
    data = read(path)
    rows = list(predictions(data))
    groups: dict[str, list[Row]] = {}
    for r in rows:
        groups.setdefault(r.group, []).append(r)
    by_group = Table(
        "Error of the predicted peak, by group",
        ("group", "cases", "median", "95th percentile", "worst", "mean"),
        tuple(_line(name, found) for name, found in sorted(groups.items())),
    )
    by_moment = Table(
        "Error by moment",
        ("moment", "cases", "median", "95th percentile", "worst", "mean"),
        tuple(
            _line(k, [r for r in rows if k in r.errors], k)
            for k in (*MOMENTS, "peak")
            if any(k in r.errors for r in rows)
        ),
    )
    far = sorted((r for r in rows if "peak" in r.errors), key=lambda r: -abs(r.errors.get("peak", 0)))[:worst]
    tail = Table("Largest errors", ("case", "peak"), tuple((r.ident, Cell(r.errors["peak"], PERCENT)) for r in far))
    unpredicted = tuple(f"{r.ident}: {r.why}" for r in rows if r.why)
    mid, p95, most, _ = summary(rows)
    body: list[Any] = [
        Node.group(
            "Peak allocated, all cases",
            [
                Node("cases", "Cases", len(rows), COUNT),
                Node("predicted", "Predicted", len(rows) - len(unpredicted), COUNT),
                Node("error.median", "Median error", mid, PERCENT),
                Node("error.p95", "95th percentile", p95, PERCENT),
                Node("error.worst", "Worst", most, PERCENT),
            ],
        ),
        by_group,
        by_moment,
        tail,
    ]
    meta = data.get("meta", {})
    source = ", ".join(f"{k} {meta[k]}" for k in ("device", "torch", "transformers") if k in meta)
    return Report(
        "validate",
        f"Predictions beside {len(rows)} measurements",
        {"file": Path(path).name},
        tuple(body),
        {},
        (),
        (Citation(f"measured on {source}"),) if source else (),
        unpredicted,
        figure=lambda: errors(f"Predicted peaks of {Path(path).name}", peaks_of(rows), "GiB", GIB),
    )


def peaks_of(rows: Iterable[Row]) -> dict[str, list[tuple[float, float]]]:
    """Group -> (predicted, measured) peaks of its cases, in bytes."""
    found: dict[str, list[tuple[float, float]]] = {}
    for r in sorted(rows, key=lambda r: r.group):
        if r.peak is not None:
            found.setdefault(r.group, []).append(r.peak)
    return found


def _line(name: str, rows: list[Row], key: str = "peak") -> tuple[Any, ...]:
    return (name, Cell(len(rows), COUNT), *(Cell(x, PERCENT) for x in summary(rows, key)))
