"""Fit what serving engines take beside the roofline to public records.

    python benchmarks/fit_engines.py

Reads tests/engines/records.json.gz (start-up logs and published speeds, with links), writes docs/held_out.json. The
times of :mod:`estimator.engines.served` have five kinds of parameters (:mod:`estimator.engines.pace`): for each engine
a multiple of its prompts' work and of its decode steps' and the seconds of a sequence in a step; for all of them a
multiple of all-reduces and one of work in fp4. They are chosen to make the mean absolute logarithm of measured over
estimated least, one after the other on a grid, with a pull towards 1. SGLang has four records and shares vLLM's.
Out of sample: every model's records left out once. The ranges are percentiles of the residuals out of sample, of the
engine's own records and, where there are few, of all.
"""

from __future__ import annotations

import gzip
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RECORD = ROOT / "docs" / "held_out.json"
BATCHES = (16, 64, 256, 1024, 4096)
SHARED = {"vllm": "vllm", "sglang": "vllm", "tensorrt-llm": "tensorrt-llm"}  # whose parameters an engine has
PULL = 0.05  # of a multiple's logarithm, in the loss
MULTIPLES = [1.04**i for i in range(-18, 28)]
SEQUENCE = [0.0, 1e-6, 2e-6, 3e-6, 5e-6, 7e-6, 1e-5, 1.4e-5, 2e-5, 3e-5]
SERVER = [0.0, 0.001, 0.002, 0.003, 0.005, 0.008]
HIDDEN = ("vllm.sequence",)  # 0: vLLM schedules a step while another runs
FEW = 30  # records of an engine below which its ranges are those of all


def parts(made: Any) -> tuple[float, float]:
    """(work, all-reduces) of a pass in seconds."""
    from estimator.trace import value_of
    from estimator.work.times import LINKS

    links = float(value_of(made.of(LINKS)))
    return float(value_of(made.device)) - links, links


def sample(r: dict[str, Any], batch: int) -> dict[str, Any]:
    """What a record's estimate is made of."""
    from estimator.commands.infer.question import Infer
    from estimator.engines import served as s
    from estimator.engines import sglang, tensorrt_llm, vllm
    from estimator.engines.speed import weights_read
    from estimator.questions import ask
    from estimator.serving.step import decode, prefill
    from estimator.trace import value_of
    from tests.engines.cases import model_of, options_of

    module: Any = {"vllm": vllm, "sglang": sglang, "tensorrt-llm": tensorrt_llm}[r["engine"]]
    more = {k: r[k] for k in ("dtype", "quantization", "kv_dtype") if r.get(k)}
    more |= {"batch_size": batch, "seq_len": r["isl"], "new_tokens": r["osl"], "tensor_parallel": str(r.get("gpus", 1))}
    asked = module.SERVER.read(ask(Infer, model_of(r), options_of(r) | more))
    most, tokens = module.sizes_of(asked)
    load, _ = s.load_of(asked, module.plan(asked), most)
    speed = s.speed_of(asked, s.PACE[r["engine"]], tokens)
    together = speed.together(load.sequences, load.prompt)
    p = parts(prefill(speed.serve, together, load.prompt))
    one = parts(prefill(speed.serve, 1, load.prompt))
    rows = max(1, round(load.sequences))
    made = decode(speed.serve, rows, max(1, round(load.context)))
    return {
        "load": load, "rows": rows, "fp4": speed.serve.machine.dtype == "fp4", "one": one,
        "prompts": tuple(x * load.sequences / together for x in p), "step": parts(made),
        "read": float(value_of(weights_read(made))), "own": float(value_of(speed.computing(load))),
    }  # fmt: skip


def estimate(x: dict[str, Any], engine: str, key: str, loaded: bool, at: dict[str, float]) -> float:
    """The figure ``key`` with parameters ``at``, in seconds a token or a pass."""
    wide = at["fp4"] if x["fp4"] else 1.0

    from estimator.engines.speed import carried, spare

    def paced(part: tuple[float, float], what: str) -> float:
        return part[0] * at[f"{engine}.{what}"] * wide + part[1] * at["links"]

    every = paced(x["prompts"], "prompt")
    step = paced(x["step"], "step") + at[f"{engine}.sequence"] * x["rows"]
    if key == "ttft":
        return paced(x["one"], "prompt") + at[f"{engine}.server"]
    if key == "decode_step_seconds":
        read, own = x["read"] * at[f"{engine}.step"] * wide, x["own"] * at[f"{engine}.prompt"] * wide
        return step + carried(every, x["load"], spare(read, own, x["load"])) / x["load"].new if loaded else step
    return x["load"].seconds(every, step) / (x["load"].sequences * x["load"].new)


def residuals(data: list[Any], at: dict[str, float]) -> list[float]:
    """Logarithms of measured over estimated seconds."""
    out = []
    for r, key, want, xs in data:
        got = min(estimate(x, SHARED[r["engine"]], key, bool(r.get("loaded")), at) for x in xs)
        out.append(math.log((1 / want if key == "tokens_per_second" else want) / got))
    return out


def fit(data: list[Any]) -> dict[str, float]:
    """The parameters that make the mean absolute residual least, a coordinate at a time."""
    at = {"links": 1.0, "fp4": 1.0}
    for e in dict.fromkeys(SHARED.values()):
        at |= {f"{e}.prompt": 1.0, f"{e}.step": 1.0, f"{e}.sequence": 0.0, f"{e}.server": 0.005}
    used = {SHARED[r["engine"]] for r, *_ in data}
    for _ in range(6):
        for name in at:
            engine, _, what = name.partition(".")
            if what and engine not in used:
                continue
            if name in HIDDEN:
                continue
            if what == "server" and not any(k == "ttft" and SHARED[r["engine"]] == engine for r, k, *_ in data):
                continue
            part = [d for d in data if not what or SHARED[d[0]["engine"]] == engine]
            grid = SEQUENCE if what == "sequence" else SERVER if what == "server" else MULTIPLES
            def loss(v: float, name: str = name, part: list[Any] = part) -> float:
                change = PULL * abs(math.log(v)) if v > 0 and name.split(".")[-1] not in ("sequence", "server") else 0
                return sum(map(abs, residuals(part, at | {name: v}))) / len(part) + change
            at[name] = min(grid, key=loss)
    return at


def percentile(values: list[float], share: float) -> float:
    v = sorted(values)
    i = share * (len(v) - 1)
    low = int(i)
    return v[low] + (i - low) * (v[min(low + 1, len(v) - 1)] - v[low])


def line(name: str, values: list[float]) -> tuple[str, int, float, float, float]:
    """(name, figures, median, nine of ten, worst) for the accuracy page."""
    e = sorted(abs(math.expm1(-x)) for x in values)
    return name, len(e), statistics.median(e), percentile(e, 0.9), e[-1]


def said(values: list[float]) -> str:
    e = sorted(abs(math.expm1(-x)) for x in values)
    return f"median {statistics.median(e):.1%}, 90% within {percentile(e, 0.9):.1%}, worst {e[-1]:.1%} ({len(e)})"


def main() -> None:
    """Print the parameters and the errors."""
    records = json.loads(gzip.decompress((ROOT / "tests/engines/records.json.gz").read_bytes()))["speeds"]
    data: list[Any] = []
    for r in records:
        xs = [sample(r, b) for b in ([r["batch"]] if r.get("batch") else BATCHES)]
        data += [(r, key, want, xs) for key, want in r["want"].items()]
    at = fit(data)
    print("in sample: ", said(residuals(data, at)))
    out: dict[int, float] = {}
    names = [str(r.get("model") or r["id"]) for r, *_ in data]
    for left in dict.fromkeys(names):
        trained = fit([d for d, n in zip(data, names, strict=True) if n != left])
        held = [i for i, n in enumerate(names) if n == left]
        out |= dict(zip(held, residuals([data[i] for i in held], trained), strict=True))
    print("out of sample, a model at a time: ", said(list(out.values())))
    for name, value in at.items():
        print(f"  {name:24s} {value:.4g}")
    rows = [line(e, [v for i, v in out.items() if data[i][0]["engine"] == e]) for e in SHARED]
    made = {"what": "each of their models left out in turn", "rows": [*rows, line("all", list(out.values()))]}
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    RECORD.write_text(json.dumps(record | {"vLLM, SGLang, TensorRT-LLM": made}, indent=1) + "\n")
    for e in SHARED:
        mine = [v for i, v in out.items() if data[i][0]["engine"] == e]
        used = mine if len(mine) >= FEW else list(out.values())
        print(f"  {e}: {said(mine)}; percentiles " + ", ".join(
            f"{p:.0%} {math.exp(percentile(used, p)):.3f}" for p in (0.05, 0.25, 0.75, 0.95)))  # fmt: skip


if __name__ == "__main__":
    main()
