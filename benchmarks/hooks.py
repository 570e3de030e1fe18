"""Measure steps that the host of a sharding library bounds, and fit what its hooks take (estimator/parallel/hooks.py).

    torchrun --nproc-per-node 2 benchmarks/hooks.py measure OUT.json CASES.json
    python benchmarks/hooks.py fit        needs scipy

CASES.json as for measure_sharded.py. measure: medians of 11 steps, from a barrier to an idle GPU, and the seconds in
which the host itself is in the forward pass, the backward pass and the step. fit: least squares of the logarithm over
every sharded step with a time in tests/accuracy (soft L1 from 10%), one factor for each host; then the same with each
model left out in turn. The constants are those of the slowest host: what is printed, times its factor.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "tests" / "accuracy"
STEPS, WARM = 14, 3
TARGETS = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
FITTED = {  # what each library can take, with a first guess in microseconds
    "DDP": {"reduced": 100.0}, "FSDP2": {"group": 1000.0, "gathered": 50.0},
    "DeepSpeed": {"stepped": 100.0, "step": 3000.0},
    "DeepSpeed ZeRO-3": {"module": 300.0, "reduced": 100.0, "stepped": 100.0},
}  # fmt: skip


def measure(out: str, cases: str) -> None:
    """Times of every case, written by rank 0."""
    import torch
    import torch.distributed as dist
    from measure_sharded import build, clear, engine_of, spread

    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    data, found = json.loads(Path(cases).read_text()), []
    for c in data["cases"]:
        model, deepspeed = build(data["configs"][c["model"]], c), c["stack"] == "deepspeed"
        net = engine_of(model, c) if deepspeed else spread(model, c)
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = None if deepspeed else torch.optim.AdamW(trained, lr=1e-5, fused=True)
        rows = [timed(net, optimizer, c) for _ in range(STEPS)][WARM:]
        names = ("seconds", "forward", "backward", "step")
        medians = {k: sorted(r[i] for r in rows)[len(rows) // 2] for i, k in enumerate(names)}
        found.append({**c, **medians, "least": min(r[0] for r in rows), "most": max(r[0] for r in rows)})
        if deepspeed:
            net.destroy()
        del model, net, trained, optimizer
        clear()
    if rank == 0:
        Path(out).write_text(json.dumps({"configs": data["configs"], "cases": found}))
    dist.destroy_process_group()


def timed(net: Any, optimizer: Any, c: dict[str, Any]) -> tuple[float, float, float, float]:
    """Seconds of one step in all, and of the host in its three parts."""
    import torch
    import torch.distributed as dist

    deepspeed, times, host = optimizer is None, c.get("accumulation", 1), [0.0, 0.0]
    ids = torch.randint(0, 1000, (c["batch"], c["seq"]), device="cuda")
    torch.cuda.synchronize()
    dist.barrier()
    start = time.perf_counter()
    for k in range(times):
        begun = time.perf_counter()
        amp = not deepspeed and c["precision"] == "mixed" and c["stage"] < 2
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=amp):
            loss = net(input_ids=ids, labels=ids).loss
        host[0] += time.perf_counter() - begun
        begun = time.perf_counter()
        waits = k < times - 1 and hasattr(net, "no_sync") and not deepspeed
        with net.no_sync() if waits else contextlib.nullcontext():
            net.backward(loss) if deepspeed else (loss / times).backward()
        del loss
        host[1] += time.perf_counter() - begun
        if deepspeed and k < times - 1:
            net.step()
    begun = time.perf_counter()
    net.step() if deepspeed else optimizer.step()
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
    stepped = time.perf_counter() - begun
    torch.cuda.synchronize()
    return time.perf_counter() - start, host[0], host[1], stepped


def cases() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(case with its seconds and its host, config) of every sharded step with a time."""
    for name in ("sharded_stacks", "hook_times"):
        data = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
        for c in data["cases"]:
            k = {**c.get("case", c), "seconds": c.get("seconds"), "run": c["run"]}
            if k["seconds"] and not k.get("offload"):
                yield k, data["configs"][k["model"]]


def options(c: dict[str, Any]) -> dict[str, Any]:
    """The case as options of ``llmcalc train``."""
    recipe = "deepspeed" if c["stack"] == "deepspeed" else {"mixed": "torch-mixed"}.get(c["precision"], "torch-bf16")
    out = {
        "recipe": recipe, "batch_size": c["batch"], "seq_len": c["seq"], "steps": 1, "stage": c["stage"],
        "gpus": 1 if c["stack"] == "plain" else 2, "accumulation": c.get("accumulation", 1),
        "checkpointing": "full" if c.get("checkpoint") else "none",
    } | ({"method": "lora", "rank": c["lora"], "targets": TARGETS} if c.get("lora") else {})  # fmt: skip
    out |= {"quantization": "nf4-dq"} if c.get("quant") else {}
    return {k: str(v) for k, v in out.items()}


def rows() -> list[dict[str, Any]]:
    """What each step's prediction is made of: the device, the network, launches, and the units of its library."""
    from estimator.commands.flops.passes import plan
    from estimator.commands.train.question import Train
    from estimator.commands.train.report import one_pass, run_of
    from estimator.commands.train.step import BACKWARD_SHARE, one_step
    from estimator.models import load_model
    from estimator.parallel.hooks import library, units
    from estimator.questions import ask
    from estimator.questions.read import recipe_of

    out = []
    for c, config in cases():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{c['model']}.json"
            path.write_text(json.dumps(config))
            q = ask(Train, load_model(str(path)), options(c))
        made, recipe = plan(one_pass(q)), recipe_of(q, [])
        run = run_of(q, [])
        step = one_step(made, recipe, run)
        late = max(0.0, step.exchange.data - step.times.device * BACKWARD_SHARE)
        found = units(made.arch, made.adapter, run.stage, bool(c.get("checkpoint")), run.accumulation)
        out.append({
            "of": None if c["stack"] == "plain" else library(recipe.kind, run.stage), "run": c["run"],
            "device": step.times.device + late, "launches": step.times.host - step.hooks, "units": found,
            "seconds": c["seconds"], "model": c["model"], "best": step.best, "low": step.low, "high": step.high,
            "what": f"{c['stack']} {c['stage']} {c['model']} {c['batch']} x {c['seq']}"
            + "".join(f" {k}" for k in ("lora", "accumulation", "checkpoint", "auto") if c.get(k)),
        })  # fmt: skip
    return out


def fit() -> None:
    """Print the constants, every error of what is answered today, and the errors out of sample."""
    import numpy as np
    from scipy.optimize import least_squares

    found = rows()
    names = [(of, f) for of, own in FITTED.items() for f in own]
    hosts = sorted({r["run"] for r in found})
    x = np.array([[getattr(r["units"], f) * (r["of"] == of) * 1e-6 for of, f in names] for r in found])
    launches, device, seconds = (np.array([r[k] for r in found]) for k in ("launches", "device", "seconds"))
    host = np.array([hosts.index(r["run"]) for r in found])
    start = np.log([1.0] * len(hosts) + [v for own in FITTED.values() for v in own.values()])

    def predict(p: Any, at: Any) -> Any:
        speed = np.exp(p[: len(hosts)])[host[at]]
        return np.maximum(device[at], speed * (launches[at] + x[at] @ np.exp(p[len(hosts) :])))

    def fitted(at: Any) -> Any:
        wrong = lambda p: np.log(predict(p, at) / seconds[at])  # noqa: E731
        return least_squares(wrong, start, loss="soft_l1", f_scale=0.1).x

    every = np.arange(len(found))
    p = fitted(every)
    print("hosts:", {h: f"{v:.2f}" for h, v in zip(hosts, np.exp(p), strict=False)})
    for (of, f), v in zip(names, np.exp(p[len(hosts) :]), strict=True):
        print(f"  {of}: {f} {v:.0f} us")
    outside = np.zeros(len(found))
    for model in sorted({r["model"] for r in found}):
        left = np.array([r["model"] == model for r in found])
        q = fitted(every[~left]).copy()
        outside[left] = predict(q, every[left]) / seconds[left] - 1
    best = np.array([r["best"] for r in found]) / seconds - 1
    for r, e, o in sorted(zip(found, best, outside, strict=True), key=lambda t: -abs(t[1])):
        inside = r["low"] <= r["seconds"] <= r["high"]
        print(f"{e:+7.1%} (model left out, host known {o:+7.1%}) {'' if inside else 'outside '}{r['run']} {r['what']}")
    for h in hosts:
        m = np.array([r["run"] == h for r in found])
        print(f"{h}: {m.sum()} steps; best value median {np.median(abs(best[m])):.1%}, "
              f"model left out {np.median(abs(outside[m])):.1%}, largest {abs(outside[m]).max():.1%}")  # fmt: skip
    covered = sum(r["low"] <= r["seconds"] <= r["high"] for r in found)
    print(f"inside low to high: {covered} of {len(found)}")


if __name__ == "__main__":
    measure(*sys.argv[2:4]) if sys.argv[1] == "measure" else fit()
