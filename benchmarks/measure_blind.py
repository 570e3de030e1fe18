"""Measure the runs of a record again: tests/accuracy/stacks_{blind,brothers,compiled}.json.gz and generate.json.gz.

    pip install torch transformers accelerate peft trl datasets bitsandbytes liger-kernel    # and, for optimizers:
    pip install galore-torch apollo-torch adam-mini schedulefree torchao lomo-optim grokadamw torch-optimi
    python benchmarks/measure_blind.py OUT.json tests/accuracy/stacks_blind.json.gz --jobs 6 [--only REGEX]
    python benchmarks/measure_blind.py OUT.json tests/accuracy/stacks_blind.json.gz --keep    # into the record

The record has the cases: ids, configs and options of ``llmcalc memory``, drawn once and kept. Each is measured in a
process of its own, ``--jobs`` at a time on one card; OUT.json is the record with what was measured now, and
``recorded`` beside it. ``--keep`` writes OUT.json's bytes into the record, if it has all.

A step is the third of a loop of one's own (recipe torch), or the fourth of transformers.Trainer or TRL's trainers, as
measure_stacks.py makes them; weights and tokens are random from one seed, dropout is the config's. Bytes: ``start``
when it begins, at most in its ``passes`` and in its update (``step``), ``peak_allocated`` the larger of both,
``peak_requested`` the same before the allocator's rounding. The versions of the record are in its ``meta``. Of
generate(), greedy: ``load``, the model alone; at most in its first forward pass (``prefill``) and in each later one
(``decode``); ``peak_allocated`` of all, what is between them too.

With those versions and six at a time, 34 cases drawn to cover each kind (loop, Trainer, sft, dpo, reward, grpo; NF4,
int8, GaLore, APOLLO, Muon, compiled, dropouts) were measured again on one H200: 32 of 34 peaks are the recorded ones to
the byte, one is 512 bytes below (RewardTrainer) and one 512 KiB above (a compiled loop: 0.005%); ``reserved`` is equal
in all. On an H100, which has the same 132 multiprocessors, 12 of 13 were equal, and one 384 KiB below (DistilBERT with
attention written out: 0.01%).
"""

from __future__ import annotations

import argparse
import gc
import gzip
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measure_stacks import DTYPES, around, finished

LOOP_STEPS = 3
LIBRARIES = ("torch", "transformers", "accelerate", "peft", "trl", "bitsandbytes", "liger-kernel", "datasets",
             "galore-torch", "apollo-torch", "adam-mini", "schedulefree", "torchao", "lomo-optim", "grokadamw",
             "torch-optimi", "triton")  # fmt: skip


class Meter:
    """The bytes of the step that was looked at last."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.requested = 0

    def reset(self) -> None:
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()

    def start(self) -> None:
        import torch

        self.reset()
        self.seen, self.requested = {"start": torch.cuda.memory_allocated()}, 0

    def end(self, phase: str) -> None:
        """The peak since the start or the last phase."""
        import torch

        torch.cuda.synchronize()
        stats = torch.cuda.memory_stats()
        self.seen[phase] = stats["allocated_bytes.all.peak"]
        self.requested = max(self.requested, stats["requested_bytes.all.peak"])
        self.reset()

    def bytes(self) -> dict[str, int]:
        """In the record's form."""
        import torch

        peak = max(self.seen["passes"], self.seen["step"])
        more = {"reserved": torch.cuda.max_memory_reserved(), "peak_requested": self.requested}
        return {**self.seen, **more, "peak_allocated": peak}


def clear() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def vocabulary(config: dict[str, Any]) -> int:
    return int((config.get("text_config") or config)["vocab_size"])


def loop(config: dict[str, Any], o: dict[str, Any]) -> dict[str, int]:
    """A loop of one's own."""
    import torch
    from blind_models import adapted, base_of, optimizer_of
    from measure_memory import DEVICE

    model = adapted(base_of(config, o), config, o)
    if o.get("checkpointing") == "full":
        kwargs = {"use_reentrant": bool(o.get("reentrant"))}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
        if o.get("method", "full") != "full":
            model.enable_input_require_grads()
    model.train()
    run = torch.compile(model) if o.get("compile") else model
    clear()
    optimizer = optimizer_of(o["optimizer"], model)
    parts, autocast = int(o.get("accumulation", 1)), o["autocast"]
    ids = torch.randint(3, vocabulary(config) - 1, (int(o["batch_size"]), int(o["seq_len"])), device=DEVICE)
    given = {"input_ids": ids, "labels": ids.clone()}
    half = getattr(torch, DTYPES["bf16" if autocast == "none" else autocast])
    meter, out = Meter(), None
    for _ in range(LOOP_STEPS):
        meter.start()
        for _ in range(parts):
            with torch.autocast(DEVICE, dtype=half, enabled=autocast != "none"):
                if o.get("hold_outputs"):
                    out = run(**given)
                    loss = out.loss
                else:
                    loss = run(**given).loss
            if parts > 1:
                loss = loss / parts
            loss.backward()
            del loss
        meter.end("passes")
        optimizer.step()
        meter.end("step")
        optimizer.zero_grad(set_to_none=o.get("gradients") != "kept")
    return meter.bytes()


def generated(config: dict[str, Any], o: dict[str, Any]) -> dict[str, int]:
    """transformers' generate() of random prompts, dropout off."""
    import torch
    from blind_models import base_of
    from measure_memory import DEVICE

    model = base_of(config, o).eval().requires_grad_(False)
    for said in (model.config, model.config.get_text_config(), model.generation_config):
        said.use_cache = True
    clear()
    held, peaks = torch.cuda.memory_allocated(), []

    def mark(*_: Any) -> None:
        torch.cuda.synchronize()
        peaks.append(torch.cuda.max_memory_allocated())
        torch.cuda.reset_peak_memory_stats()

    model.register_forward_pre_hook(mark)
    model.register_forward_hook(mark)
    ids = torch.randint(3, vocabulary(config) - 1, (int(o["batch_size"]), int(o["seq_len"])), device=DEVICE)
    said = model.generation_config
    said.pad_token_id, said.eos_token_id = 0, None
    if model.config.is_encoder_decoder and said.decoder_start_token_id is None:
        said.decoder_start_token_id = 0
    new = int(o["new_tokens"])
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
    mark()
    return {"load": held, "prefill": peaks[1], "decode": max(peaks[3::2]), "peak_allocated": max(peaks),
            "reserved": torch.cuda.max_memory_reserved()}  # fmt: skip


def trainer(stack: str, config: dict[str, Any], o: dict[str, Any]) -> dict[str, int]:
    """transformers.Trainer, or one of TRL's, which applies the adapter itself."""
    import transformers
    from blind_models import adapted, base_of, peft_config

    meter = Meter()

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            meter.start()

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            meter.end("passes")

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            meter.end("step")

    adapter, types = None, config["model_type"] == "gemma3" and stack == "trainer"  # it wants types of tokens
    model = base_of(config, o, stack == "reward")
    if stack == "trainer":
        model = adapted(model, config, o)
    elif o.get("method", "full") != "full":
        adapter = peft_config(o, "SEQ_CLS" if stack == "reward" else "CAUSAL_LM")
    made = around(stack, model, adapter, vocabulary(config), o, Watch())
    if types:
        made.train_dataset = made.train_dataset.map(lambda row: {"token_type_ids": [0] * len(row["input_ids"])})
    del model
    clear()
    made.train()
    return meter.bytes()


def one() -> None:
    """The case on standard input, measured in this process; its bytes on the last line."""
    import torch

    case = json.load(sys.stdin)
    config, o = case["config"], case["options"]
    torch.manual_seed(0)
    if o["mode"] == "inference":
        found = generated(config, o)
    else:
        found = loop(config, o) if o["recipe"] == "torch" else trainer(o["recipe"], config, o)
    print("\n" + json.dumps(found))


def alone(case: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The case, measured in a process of its own, with what was recorded; or with why it failed."""
    try:
        printed = finished([__file__], json.dumps({**case, "config": config}))
    except RuntimeError as error:
        return {**case, "error": str(error)[:400]}
    return {**case, "measured": json.loads(printed.strip().splitlines()[-1]), "recorded": case["measured"]}


def off(case: dict[str, Any]) -> int:
    """Bytes of the peak now over those recorded."""
    return int(case["measured"]["peak_allocated"] - case["recorded"]["peak_allocated"])


def versions() -> Iterator[tuple[str, str]]:
    import torch

    for name in LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield "device", torch.cuda.get_device_name()


def run(target: Path, record: dict[str, Any], jobs: int, only: str) -> None:
    """Measure the cases whose ids match ``only``; write them beside what was recorded, and say how many are equal."""
    cases = [c for c in record["cases"] if re.search(only, c["id"])]
    meta, done = {"about": record["meta"]["about"], **dict(versions())}, []
    with ThreadPoolExecutor(jobs) as pool:
        for case in pool.map(lambda c: alone(c, record["configs"][c["model"]]), cases):
            done.append(case)
            said = case.get("error") or f"{case['measured']['peak_allocated']:,} ({off(case):+,})"
            print(f"{case['id']}: {said}", flush=True)
            target.write_text(json.dumps({"meta": meta, "configs": record["configs"], "cases": done}, indent=1))
    found = [abs(off(c)) for c in done if "recorded" in c]
    print(f"{found.count(0)} of {len(cases)} equal to the byte, the rest within {max(found, default=0):,} bytes;"
          f" {len(done) - len(found)} failed")  # fmt: skip


def keep(source: Path, record: dict[str, Any], path: Path) -> None:
    """Write the bytes of ``source`` into the record at ``path``."""
    made = json.loads(source.read_text())
    found = {c["id"]: c["measured"] for c in made["cases"] if "recorded" in c}
    missing = [c["id"] for c in record["cases"] if c["id"] not in found]
    if missing:
        raise SystemExit(f"{source}: {len(missing)} cases of {path} are not measured there, {missing[0]} for one")
    cases = [{**c, "measured": found[c["id"]]} for c in record["cases"]]
    with gzip.GzipFile(path, "wb", mtime=0) as f:
        f.write(json.dumps({**record, "meta": made["meta"], "cases": cases}, separators=(",", ":")).encode())


def main() -> None:
    if len(sys.argv) == 1:
        one()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="a regular expression of ids")
    parser.add_argument("--keep", action="store_true", help="write OUT.json's bytes into the record")
    given = parser.parse_args()
    record = json.loads(gzip.decompress(given.record.read_bytes()))
    if given.keep:
        keep(given.out, record, given.record)
    else:
        run(given.out, record, given.jobs, given.only)


if __name__ == "__main__":
    main()
