"""Random runs whose ``--largest`` is held to the single command: the maximum fits, one more does not.

    python -m tests.properties.largest --runs 1000 --seed 18 --record docs/largest.json

A run follows from the seed and its number. ``docs/largest.json`` is what docs/reliability.md says of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.properties.asked import report, results

CARDS = ("t4", "rtx-3060", "rtx-4090", "l4", "v100-16gb", "a100-40gb", "a100-80gb", "h100-sxm", "h200", "mi300x",
         "12GB", "3GB", "m3-max")  # fmt: skip
TRAINED = ("gpt2", "smollm2-135m", "pythia-14m", "qwen3-0.6b", "llama-3.2-1b", "gemma-3-1b", "llama-3-8b", "mistral-7b",
           "flan-t5-small", "mamba-130m", "opt-350m", "phi-3-mini", "qwen3-30b-a3b", "bert-base-uncased")  # fmt: skip
ADAPTED = tuple(m for m in TRAINED if m not in ("mamba-130m", "bert-base-uncased"))
SERVED = ("llama-3.2-1b", "llama-3-8b", "mistral-7b", "qwen3-0.6b", "qwen3-8b", "qwen3-30b-a3b", "gemma-3-1b")
LOCAL = ("llama-3.2-1b", "llama-3-8b", "qwen3-0.6b", "qwen3-30b-a3b", "gemma-3-1b", "mistral-7b")


class LargestRun(NamedTuple):
    """A command line without ``--largest``, what is searched, and what follows it in the single command."""

    kind: str
    argv: list[str]
    what: str
    also: tuple[str, ...] = ()


def training(rng: Random) -> LargestRun:
    """One GPU, every parameter."""
    argv = ["--mode", "training", "--model", rng.choice(TRAINED), "--gpu", rng.choice(CARDS)]
    argv += ["--checkpointing", rng.choice(("none", "full")), "--recipe",
             rng.choice(("trainer", "torch-mixed", "torch-bf16", "torch-fp32", "sft"))]  # fmt: skip
    argv += rng.choice(([], ["--optimizer", "adamw8bit"], ["--attention", "eager"], ["--accumulation", "4"]))
    return sized(rng, "training", argv, ("batch-size", "seq-len"))


def adapted(rng: Random) -> LargestRun:
    """An adapter, its rank too."""
    argv = ["--mode", "training", "--model", rng.choice(ADAPTED), "--gpu", rng.choice(CARDS)]
    argv += ["--method", rng.choice(("lora", "qlora", "dora")), "--targets", "all-linear"]
    argv += ["--checkpointing", rng.choice(("none", "full"))]
    return sized(rng, "adapters", argv, ("batch-size", "seq-len", "rank"))


def sharded(rng: Random) -> LargestRun:
    """DDP, ZeroRedundancyOptimizer, FSDP, DeepSpeed, Megatron."""
    argv = ["--mode", "training", "--model", rng.choice(TRAINED[:8]), "--gpu", rng.choice(CARDS)]
    argv += ["--gpus", rng.choice(("2", "3", "8", "64")), "--stage", rng.choice("0123")]
    argv += ["--recipe", rng.choice(("trainer", "torch-mixed", "deepspeed", "megatron"))]
    argv += rng.choice(([], ["--checkpointing", "full"]))
    return sized(rng, "sharded", argv, ("batch-size", "seq-len"))


def inference(rng: Random) -> LargestRun:
    """The library's own inference."""
    argv = ["--mode", "inference", "--model", rng.choice(TRAINED), "--gpu", rng.choice(CARDS)]
    argv += rng.choice(([], ["--quantization", "nf4"], ["--quantization", "int8"], ["--new-tokens", "300"]))
    return sized(rng, "inference", argv, ("batch-size", "seq-len"))


def served(rng: Random) -> LargestRun:
    """A serving engine."""
    argv = ["--mode", "inference", "--engine", rng.choice(("vllm", "sglang", "tensorrt-llm", "tgi"))]
    argv += ["--model", rng.choice(SERVED), "--gpu", rng.choice(CARDS)]
    argv += rng.choice(([], ["--tensor-parallel", "2"], ["--kv-dtype", "fp8"], ["--quantization", "fp8"]))
    return sized(rng, "engines", argv, ("batch-size", "seq-len"))


def local(rng: Random) -> LargestRun:
    """llama.cpp."""
    argv = ["--mode", "inference", "--engine", "llama.cpp", "--model", rng.choice(LOCAL), "--gpu", rng.choice(CARDS)]
    argv += ["--quantization", rng.choice(("q4_k_m", "q8_0", "q6_k", "iq4_xs"))]
    more = (["--kv-dtype", "q8_0"], ["--parallel", "4"], ["--ubatch-size", "1024"], ["--cpu-moe", "all"])
    argv += rng.choice(([], *more))
    what = rng.choice(("ctx-size", "gpu-layers", "batch-size", "seq-len"))
    argv += ["--ctx-size", str(rng.choice((2048, 8192, 30_000)))] if what == "gpu-layers" else []
    return sized(rng, "llama.cpp", argv, (what,))


KINDS = (training, adapted, sharded, inference, served, local)


def sized(rng: Random, kind: str, argv: list[str], names: tuple[str, ...]) -> LargestRun:
    """The run with the sizes that are not searched."""
    what = rng.choice(names)
    argv = [*argv, *(["--seq-len", str(rng.choice((128, 500, 1024, 2048)))] if what in ("batch-size", "rank") else [])]
    argv += ["--batch-size", str(rng.choice((1, 2, 5)))] if what in ("seq-len", "rank") else []
    argv += ["--rank", str(rng.choice((4, 16, 128)))] if kind == "adapters" and what != "rank" else []
    also = ("--max-model-len",) if kind == "engines" and what == "seq-len" else ()
    return LargestRun(kind, ["memory", *argv], what, also)


def drawn(seed: int, number: int) -> LargestRun:
    """Run ``number`` of a seed."""
    rng = Random(f"{seed} {number}")
    return rng.choice(KINDS)(rng)


def wrong(run: LargestRun) -> tuple[str, str]:
    """("" or what does not hold, "checked", "nothing fits" or why the run is refused)."""
    key = f"largest.{run.what.replace('-', '_')}"
    made = report([*run.argv, "--largest", run.what])
    found = None if made is None else made.results()
    if found is None or found.get(key) is None:
        return "", "refused"
    most, sure = int(found[key]), int(found[f"{key}.sure"])

    def single(n: int) -> dict[str, Any]:
        more = [x for flag in run.also for x in (flag, str(n))]
        return results([*run.argv, f"--{run.what}", str(n), *more]) or {"fits": "refused"}

    def fits(n: int) -> str:
        return str(single(n)["fits"])

    for n, good in ((most, ("yes", "tight")), (sure, ("yes",))):
        if n and fits(n) not in good:
            return f"--{run.what} {n}: {fits(n)}, not {' or '.join(good)}", "checked"
    if run.what == "gpu-layers" and most and single(most + 1) == single(most):
        return "", "checked"  # all layers are on the card: asking for one more asks for the same
    for n, bad in ((most + 1, ("no", "refused")), (sure + 1, ("no", "tight", "refused"))):
        if fits(n) not in bad:
            return f"--{run.what} {n}: {fits(n)}, not {' or '.join(bad)}", "checked"
    if fits(most + 1) == "refused":
        return f"--{run.what} {most + 1}: refused, so one more was not shown not to fit", "checked"
    return "", "checked" if most else "nothing fits"


def main() -> None:
    """Check ``--runs`` of them, and say what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--record")
    asked = parser.parse_args()
    start, kinds, ends, faults, checked, number = time.time(), Counter[str](), Counter[str](), [], 0, 0
    while checked < asked.runs:
        run = drawn(asked.seed, number)
        said, end = wrong(run)
        ends[end] += 1
        if end == "checked":
            checked += 1
            kinds[f"{run.kind}, {run.what}"] += 1
        if said:
            faults.append(f"{number}: {' '.join(run.argv)}: {said}")
            print(faults[-1], flush=True)
        number += 1
    record: dict[str, Any] = {
        "date": str(date.today()), "seed": asked.seed, "minutes": round((time.time() - start) / 60, 1),
        "drawn": number, "ends": dict(sorted(ends.items())), "checked": dict(sorted(kinds.items())),
        "wrong": len(faults),
    }  # fmt: skip
    print(json.dumps(record, indent=1))
    if asked.record:
        Path(asked.record).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
