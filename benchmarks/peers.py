"""Other calculators on the same recorded steps, and how long each takes beside llmcalc, in one run.

    python benchmarks/peers.py [--record docs/peers.json] [--runs 5]

Each must be installed beside llmcalc or in the folder of programs that --bin names:
``pip install vramcalc fitcheck-llm vramscout ridgepoint llm-sizer``. A calculator is given the model's own config.json
(or its name, where it takes only names) and the settings of the run, and a case that it cannot express or refuses is
left out. Of what it prints, ``tensors`` is compared with the peak that the allocator handed out and ``whole`` with what
the driver showed for the device. Nothing here is fitted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from estimator.commands.validate.report import read  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
REVISION = "0" * 40
SHORT = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o"}
RUNS = ("gpu_memory", "gpu_memory_more")


class Said(NamedTuple):
    """What a calculator predicts, in bytes: of tensors, and of the whole device; None where it says nothing of it."""

    tensors: float | None
    whole: float | None


class Peer(NamedTuple):
    """A calculator: its distribution, the arguments of a case (None: not to be expressed), what its JSON says."""

    package: str
    line: Callable[[dict[str, Any], str, Path], list[str] | None]
    said: Callable[[dict[str, Any]], Said]
    what: str


def attention_only(case: dict[str, Any]) -> bool:
    """Whether the adapters stand on all four of a layer's attention matrices."""
    return set(case.get("targets", ())) == set(SHORT)


def plain(case: dict[str, Any], optimizers: dict[str, str]) -> bool:
    """Whether a training case is full or LoRA training with one of these optimizers."""
    method = case.get("method") in (None, "lora") and not case.get("dora")
    return method and case.get("optimizer", "adamw") in optimizers


def vramcalc(case: dict[str, Any], name: str, place: Path) -> list[str] | None:
    line = ["vramcalc", "estimate", str(place / "config.json"), "--json", "--batch", str(case["batch"])]
    line += ["--attn", case.get("attn", "sdpa")]
    if "quant" in case:
        return None
    if case["kind"] == "infer":
        return [*line, "--dtype", "bf16", "--seq", str(case["seq"] + case.get("new_tokens", 8))]
    optimizers = {"adamw": "adamw", "adamw-fused": "adamw", "adamw-forloop": "adamw", "sgd": "sgd"}
    if not plain(case, optimizers) or (case.get("method") == "lora" and not attention_only(case)):
        return None
    precision = case.get("precision", "bf16")
    line += ["--train", "--seq", str(case["seq"]), "--optimizer", optimizers[case.get("optimizer", "adamw")]]
    line += ["--precision", "amp" if precision == "amp" else "pure"]
    line += ["--dtype", "fp32" if precision == "fp32" else "bf16"]
    line += ["--lora", str(case["rank"])] if case.get("method") == "lora" else []
    return line + (["--grad-checkpoint"] if case.get("checkpoint") else [])


def fitcheck(case: dict[str, Any], name: str, place: Path) -> list[str] | None:
    if case["kind"] == "infer":
        line = ["fitcheck", "infer", f"local/{name}", "--concurrent", str(case["batch"])]
        line += ["--seq-len", str(case["seq"] + case.get("new_tokens", 8)), "--precision", "bf16"]
    else:
        optimizers = {"adamw": "adamw", "adamw-fused": "adamw", "adamw-forloop": "adamw", "adamw8bit": "adam8bit",
                      "sgd": "sgd", "sgd-momentum": "sgd-momentum"}  # fmt: skip
        if not plain(case, optimizers):
            return None
        line = ["fitcheck", f"local/{name}", "--batch-size", str(case["batch"]), "--seq-len", str(case["seq"])]
        line += ["--optimizer", optimizers[case.get("optimizer", "adamw")]]
        precision = case.get("precision", "bf16")
        line += ["--precision", "fp32" if precision == "fp32" else "bf16"]
        line += ["--optimizer-dtype", "bf16"] if precision == "bf16" and case.get("method") != "lora" else []
        if case.get("method") == "lora":
            line += ["--lora-r", str(case["rank"]), "--lora-targets", ",".join(case["targets"])]
        else:
            line.append("--no-lora")
        line += ["--grad-checkpoint"] if case.get("checkpoint") else []
        line += ["--flash-attn"] if case.get("attn", "sdpa") == "sdpa" else []
    line += ["--quant", "nf4"] + (["--double-quant"] if case["quant"] else []) if "quant" in case else []
    return [*line, "--gpu", "h100", "--json"]


def vramscout(case: dict[str, Any], name: str, place: Path) -> list[str] | None:
    if case["kind"] != "infer" or "quant" in case:
        return None
    context = str(case["seq"] + case.get("new_tokens", 8))
    return ["vramscout", str(place / "config.json"), "--context", context, "--batch-size", str(case["batch"]),
            "--dtype", "bf16", "--vram-gib", "80", "--json"]  # fmt: skip


def ridgepoint(case: dict[str, Any], name: str, place: Path) -> list[str] | None:
    if case["kind"] != "infer" or "quant" in case:
        return None
    context = str(case["seq"] + case.get("new_tokens", 8))
    return ["ridgepoint", "fit", name, "--gpu", "h100-80gb", "--ctx", context, "--json"]


def llm_sizer(case: dict[str, Any], name: str, place: Path) -> list[str] | None:
    if case["kind"] != "infer" or "quant" in case:
        return None
    context = str(case["seq"] + case.get("new_tokens", 8))
    return ["llm-sizer", "-m", name, "-q", "bf16", "-u", str(case["batch"]), "-c", context, "--json"]


def _vramcalc(found: dict[str, Any]) -> Said:
    e = found["estimate"]
    return Said(e["total"] - e["overhead"], e["total"])


def _fitcheck(found: dict[str, Any]) -> Said:
    m = found["memory_mib"]
    return Said((m["total"] - m["overhead"]) * MIB, m["total"] * MIB)


def _vramscout(found: dict[str, Any]) -> Said:
    parts = found["parts_gib"]
    whole = sum(v for k, v in parts.items() if k != "Safety reserve")
    return Said((whole - parts["CUDA / runtime"]) * GIB, whole * GIB)


PEERS = {
    "vramcalc": Peer("vramcalc", vramcalc, _vramcalc, "training and inference on one GPU"),
    "fitcheck": Peer("fitcheck-llm", fitcheck, _fitcheck, "fine-tuning and serving on one GPU"),
    "vramscout": Peer("vramscout", vramscout, _vramscout, "inference; its safety reserve is not counted"),
    "ridgepoint": Peer(
        "ridgepoint", ridgepoint,
        lambda f: Said(f["memory"]["weights_bytes"]["best"] + f["capacity"]["bytes_per_seq"], None),
        "a vLLM server of a model that it knows; weights and one sequence's cache",
    ),
    "llm-sizer": Peer(
        "llm-sizer", llm_sizer, lambda f: Said(f["vram_gb"]["total"] * GIB, None), "weights and cache, by name",
    ),
}  # fmt: skip


class Ran(NamedTuple):
    """How a program ended, and the seconds of the processor that it took."""

    code: int
    out: str
    cpu: float
    wall: float


def run(line: list[str], programs: Path, env: dict[str, str]) -> Ran:
    """A program of ``programs`` run once."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([programs / line[0], *line[1:]], capture_output=True, text=True, env=env, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(done.returncode, done.stdout, cpu, time.perf_counter() - start)


def shelved(configs: dict[str, Any], home: Path) -> None:
    """The configs as folders, and where a program without a network looks for a repository's files."""
    for name, config in configs.items():
        cached = home / "hub" / f"models--local--{name}"
        for place in (home / name, cached / "snapshots" / REVISION, cached / "refs"):
            place.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config)
        (home / name / "config.json").write_text(text)
        (cached / "snapshots" / REVISION / "config.json").write_text(text)
        (cached / "refs" / "main").write_text(REVISION)


def measure(programs: Path, home: Path) -> dict[str, Any]:
    """Calculator -> its errors on the recorded runs."""
    env = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    env.pop("PYTHONPATH", None)
    found: dict[str, dict[str, list[float]]] = {name: {"tensors": [], "whole": []} for name in PEERS}
    count, asked = 0, dict.fromkeys(PEERS, 0)
    for data in (read(str(ROOT / "tests" / "accuracy" / f"{name}.json.gz")) for name in RUNS):
        configs = {re.sub(r"[^\w.-]", "-", name): config for name, config in data["configs"].items()}
        shelved(configs, home)
        for case in data["cases"]:
            count += 1
            name = re.sub(r"[^\w.-]", "-", case["model"])
            for peer, p in PEERS.items():
                line = p.line(case, name, home / name)
                if line is None:
                    continue
                asked[peer] += 1
                try:
                    said = p.said(json.loads(run(line, programs, env).out))
                except (ValueError, KeyError, TypeError):
                    continue  # refused
                real = {"tensors": case["measured"].get("peak"), "whole": case["measured"].get("device")}
                for key, value in said._asdict().items():
                    if value is not None and real[key]:
                        found[peer][key].append(100 * (value / real[key] - 1))
    rows = {}
    for peer, p in PEERS.items():
        rows[peer] = {"package": p.package, "what": p.what, "asked": asked[peer]}
        rows[peer] |= {key: summed(errors) for key, errors in found[peer].items() if errors}
    return {"steps": count, "peers": rows}


def summed(errors: list[float]) -> dict[str, float]:
    """Cases, and the median, 90th percentile and mean of errors in percent; the first two of their size."""
    far = sorted(abs(e) for e in errors)
    return {"cases": len(far), "median": round(median(far), 1), "p90": round(far[round(0.9 * (len(far) - 1))], 1),
            "bias": round(sum(errors) / len(errors), 1)}  # fmt: skip


def speed(programs: Path, home: Path, runs: int) -> dict[str, float]:
    """Calculator -> seconds of the processor of its cheapest answer beside llmcalc's of the same question, a ratio."""
    env = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    train = {"kind": "train", "model": "llama-3-8b", "batch": 1, "seq": 1024, "precision": "bf16"}
    infer = {"kind": "infer", "model": "llama-3-8b", "batch": 1, "seq": 1024}
    ours = {
        "train": ["llmcalc", "memory", "llama-3-8b", "--mode", "training", "--recipe", "torch-bf16", "-s", "1024"],
        "infer": ["llmcalc", "memory", "llama-3-8b", "-s", "1024"],
    }
    out: dict[str, float] = {}
    for peer, p in PEERS.items():
        case = train if p.line(train, "llama-3-8b", home / "llama-3-8b") else infer
        line = p.line(case, "llama-3-8b", home / "llama-3-8b")
        assert line is not None
        theirs, own = [], []
        for _ in range(runs):  # one after the other, so that what else the machine does falls on both
            theirs.append(run(line, programs, {k: v for k, v in env.items() if k != "PYTHONPATH"}).cpu)
            mine = [*ours[case["kind"]], "--gpu", "h100-sxm", "--format", "json"]
            own.append(run(mine, Path(sys.prefix) / "bin", env).cpu)
        out[peer] = round(min(theirs) / min(own), 2)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bin", type=Path, default=Path(sys.prefix) / "bin", help="the folder of their programs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.bin, Path(folder))
        ratios = speed(args.bin, Path(folder), args.runs)
    versions = installed(args.bin)
    for peer, row in found["peers"].items():
        row["version"], row["cpu_ratio"] = versions.get(row["package"], "?"), ratios[peer]
        print(f"{peer} {row['version']}: {row}")
    found = {"date": datetime.now(UTC).date().isoformat(), "llmcalc": version("llmcalc-estimator"), **found}
    if args.record:
        args.record.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def installed(programs: Path) -> dict[str, str]:
    """Distribution -> version, as the Python beside the programs says."""
    asked = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    return dict(json.loads(run(["python", "-c", asked], programs, dict(os.environ)).out))


if __name__ == "__main__":
    sys.exit(main())
