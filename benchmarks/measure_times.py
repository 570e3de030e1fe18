"""Measure seconds of real steps on one GPU: training steps, eager and compiled, prefills and decode steps.

    python benchmarks/measure_times.py OUT.json CASES.json          needs torch, transformers, peft and a GPU

CASES has the form of tests/accuracy/step_times.json or of compiled_times.json (cases without a ``kind``): either file
renews itself. A model without a config in the file is a preset. Weights are random, dropout is 0, attention is SDPA.

A training step is forward, backward and fused AdamW in bf16 (``lora``: rank 16 on all linear layers; ``checkpoint`` or
``ckpt``: every layer); compiled ones run under autocast too, in turns with eager ones. An inference is a prefill whose
last logits are computed, and a decode step replayed from a CUDA graph with a static cache of ``seq`` + 64 tokens; where
there is no GPU (to try a small case) it is run as it is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import measure_memory
import torch
import transformers

from estimator.models import load_model

WARM, TIMED, TURNS = 3, 12, 2
SPARE = 64  # tokens of a static cache behind the prompt


def seconds(run: Callable[[], Any], warm: int = WARM, timed: int = TIMED) -> list[float]:
    """Of each timed run after ``warm`` others: between two events on the device, or by the clock."""
    found = []
    for i in range(warm + timed):
        if torch.cuda.is_available():
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            run()
            last.record()
            torch.cuda.synchronize()
            took = first.elapsed_time(last) / 1e3
        else:
            start = time.perf_counter()
            run()
            took = time.perf_counter() - start
        found += [took] if i >= warm else []
    return found


def step(model: Any, given: dict[str, Any], amp: bool) -> Callable[[], None]:
    """One optimizer step of the model on the batch ``given``."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=1e-5, fused=True)

    def run() -> None:
        with torch.autocast(measure_memory.DEVICE, dtype=torch.bfloat16, enabled=amp):
            loss = model(**given).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def trained(case: dict[str, Any], config: dict[str, Any], build: Callable[..., Any] = measure_memory.build) -> Any:
    """The case's model, made by ``build``, adapted and checkpointed as it says."""
    adapter = {"method": "lora", "rank": 16, "targets": "all-linear"} if case.get("lora") else {}
    model = measure_memory.adapted(build(config, torch.bfloat16, "sdpa", None), adapter)
    model.config.use_cache = False
    if case.get("checkpoint") or case.get("ckpt"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if adapter:
            model.enable_input_require_grads()
    return model.train()


def compiled(case: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Steps of one model, eager and compiled in turns, and seconds of the first compiled one."""
    model = trained(case, config)
    given = measure_memory.inputs(config, case)
    ways = {"eager": step(model, given, True), "compiled": step(torch.compile(model), given, True)}
    found: dict[str, Any] = {"compile_s": round(seconds(ways["compiled"], 0, 1)[0], 1)}
    for _ in range(TURNS):
        for name, run in ways.items():
            found[name] = found.get(name, []) + [round(x, 5) for x in seconds(run, timed=TIMED // TURNS)]
    return found


@torch.no_grad()
def inferred(case: dict[str, Any], config: dict[str, Any]) -> dict[str, float]:
    """A prefill, and a decode step behind it."""
    model = measure_memory.build(config, torch.bfloat16, "sdpa", None).eval()
    ids = measure_memory.inputs(config, case)["input_ids"]
    found = {"prefill_s": median(seconds(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1)))}
    if "decode_graph_s" not in case:
        return found
    cache = transformers.StaticCache(config=model.config, max_cache_len=case["seq"] + SPARE)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    token, at = ids[:, -1:].clone(), torch.tensor([case["seq"]], device=measure_memory.DEVICE)

    def decode() -> None:
        model(input_ids=token, past_key_values=cache, use_cache=True, cache_position=at)

    if torch.cuda.is_available():
        seconds(decode, timed=0)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            decode()
        return found | {"decode_graph_s": median(seconds(graph.replay))}
    return found | {"decode_graph_s": median(seconds(decode))}


def measured(case: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The case with its seconds measured anew."""
    if "kind" not in case:
        return case | compiled(case, config)
    if case["kind"] == "infer":
        return case | inferred(case, config)
    run = step(trained(case, config), measure_memory.inputs(config, case), False)
    return case | {"step_s": median(seconds(run))}


def main() -> None:
    target, source = sys.argv[1:]
    data = json.loads(Path(source).read_text())
    if not torch.cuda.is_available():
        measure_memory.DEVICE = "cpu"
    for i, case in enumerate(data["cases"]):
        config = data["configs"].get(case["model"]) or dict(load_model(case["model"]).config.raw)
        data["cases"][i] = measured(case, config)
        print(data["cases"][i], flush=True)
        if torch.cuda.is_available():
            measure_memory.clear()
    data["meta"] = {"torch": torch.__version__, "transformers": transformers.__version__,
                    "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none"}  # fmt: skip
    Path(target).write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
