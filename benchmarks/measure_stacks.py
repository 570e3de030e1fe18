"""Measure peak memory of transformers.Trainer and TRL's trainers on your GPU, for ``llmcalc validate FILE.json``.

    pip install torch transformers peft datasets trl     # bitsandbytes and liger-kernel for what uses them
    python benchmarks/measure_memory.py OUT.json CASES.json --stack trainer    # or sft, dpo, reward, grpo, ddp, fsdp,
                                                                               # deepspeed, torchtune, litgpt,
                                                                               # unsloth, axolotl

CASES.json is ``{"configs": {name: config.json}, "cases": [{"id", "model", "options": {...}}]}``. ``options`` are those
of ``llmcalc memory``: batch_size, seq_len, dtype, autocast, optimizer, checkpointing, reentrant, accumulation, kernels,
method lora with rank and targets, quantization nf4 or nf4-dq, prepare_kbit, packing, activation_offload, compile,
answer_len, reference. Each case runs in a process of its own; weights and tokens are random, dropout is 0. GRPO's
completions are handed over ready (rollout_func). Four optimizer steps are taken; the last one, the steady state, is
written, with the seconds of the last two.

Sharded cases (ddp, fsdp, deepspeed) are handed to measure_sharded.py, each under a torchrun of its own: options gpus,
stage, batch_size, seq_len, recipe (torch-bf16, torch-mixed), method lora with rank, args autocast_adapter_dtype,
quantization nf4-dq, checkpointing, accumulation, offload, buckets. torchtune and litgpt: see measure_codes.py;
unsloth and axolotl: measure_wraps.py.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
STACKS = ("trainer", "sft", "dpo", "reward", "grpo")
SHARDED = {"ddp": "ddp", "fsdp": "fsdp2", "deepspeed": "deepspeed"}
CODES = ("torchtune", "litgpt")  # measure_codes.py
WRAPS = ("unsloth", "axolotl")  # measure_wraps.py
STEPS = 4
WORDS = 2000  # of the tokenizer that DPO's texts are written in


def model_of(stack: str, config: dict[str, Any], o: dict[str, Any]) -> Any:
    """The model with random weights on the GPU, packed and prepared where the options say so."""
    import torch
    import transformers
    from measure_memory import build

    dtype = getattr(torch, DTYPES[o.get("dtype", "bf16")])
    quant = {"nf4": False, "nf4-dq": True}.get(str(o.get("quantization")))
    kind = None
    if stack == "reward":
        config, kind = {**config, "num_labels": 1}, transformers.AutoModelForSequenceClassification
    model = build(config, dtype, o.get("attention", "sdpa"), quant, kind)
    if quant is None:
        return model
    from transformers.quantizers.auto import AutoHfQuantizer
    from transformers.utils.quantization_config import BitsAndBytesConfig

    said = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=quant)
    model.is_loaded_in_4bit = model.is_quantized = True
    model.config.quantization_config, model.hf_quantizer = said, AutoHfQuantizer.from_config(said)
    if o.get("prepare_kbit"):
        import peft

        kwargs = {"use_reentrant": bool(o.get("reentrant"))}
        return peft.prepare_model_for_kbit_training(model, o.get("checkpointing") == "full", kwargs)
    return model


def examples(stack: str, vocab: int, o: dict[str, Any]) -> Any:
    """Random examples of ``seq_len`` tokens, half of them a prompt's for DPO."""
    import datasets
    import torch

    seq, rows = int(o["seq_len"]), int(o.get("batch_size", 1)) * int(o.get("accumulation", 1)) * STEPS
    generator = torch.Generator().manual_seed(0)

    def tokens(n: int, top: int) -> list[int]:
        return list(torch.randint(3, top, (n,), generator=generator).tolist())

    top, half = min(vocab, WORDS) - 1, seq // 2
    if stack == "reward":
        pair = ("chosen_ids", "rejected_ids")
        return datasets.Dataset.from_list([{x: tokens(seq, top) for x in pair} for _ in range(rows)])
    if stack == "grpo":
        return datasets.Dataset.from_list([{"prompt": f"w{i + 3}"} for i in range(rows)])
    if stack == "dpo":
        words = lambda n: " ".join(f"w{i}" for i in tokens(n, top))  # noqa: E731
        made = [{"prompt": words(half), "chosen": f" {words(seq - half - 1)}", "rejected": f" {words(seq - half - 1)}"}
                for _ in range(rows)]  # fmt: skip
        return datasets.Dataset.from_list(made)
    ids = [tokens(seq, vocab - 1) for _ in range(rows)]
    mask = {"attention_mask": [1] * seq} if stack == "trainer" else {}
    return datasets.Dataset.from_list([{"input_ids": x, "labels": list(x), **mask} for x in ids])


def tokenizer(vocab: int) -> Any:
    """One word a token, for the trainers that want a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, min(vocab, WORDS))}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<pad>"
    )


def arguments(stack: str, o: dict[str, Any]) -> dict[str, Any]:
    """The options as TrainingArguments' fields."""
    out: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": int(o.get("batch_size", 1)),
        "gradient_accumulation_steps": int(o.get("accumulation", 1)), "max_steps": STEPS,
        "bf16": o.get("autocast", "bf16") == "bf16", "fp16": o.get("autocast") == "fp16",
        "optim": o.get("optimizer", "adamw_torch_fused"), "gradient_checkpointing": o.get("checkpointing") == "full",
        "gradient_checkpointing_kwargs": {"use_reentrant": bool(o.get("reentrant"))}, "report_to": "none",
        "save_strategy": "no", "use_liger_kernel": o.get("kernels") == "liger", "torch_compile": bool(o.get("compile")),
        "disable_tqdm": True, "lr_scheduler_type": "constant",
    }  # fmt: skip
    if o.get("optim_target_modules"):
        targets = str(o["optim_target_modules"])
        out["optim_target_modules"] = targets if targets == "all-linear" else targets.split(",")
    if stack == "grpo":
        whole = out["per_device_train_batch_size"] * out["gradient_accumulation_steps"]
        out |= {"num_generations": whole, "beta": 0.04 if o.get("reference") == "policy" else 0.0}
        out["max_completion_length"] = answer(o)
    elif stack != "trainer":
        out["max_length"] = int(o["seq_len"])
    if stack == "dpo":
        out["precompute_ref_log_probs"] = o.get("reference") == "precomputed"
    if stack == "sft":
        out |= {"packing": bool(o.get("packing")), "activation_offloading": bool(o.get("activation_offload"))}
    return out


def answer(o: dict[str, Any]) -> int:
    """Tokens of a completion."""
    return int(o.get("answer_len") or int(o["seq_len"]) // 2)


def rollouts(vocab: int, o: dict[str, Any]) -> Any:
    """Completions that were generated before: of random tokens, as long as the options say."""
    import torch

    def give(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        def tokens(n: int) -> list[list[int]]:
            return list(torch.randint(3, min(vocab, WORDS) - 1, (len(prompts), n)).tolist())

        made = answer(o)
        return {"prompt_ids": tokens(int(o["seq_len"]) - made), "completion_ids": tokens(made), "logprobs": None}

    return give


def trainer_of(stack: str, config: dict[str, Any], o: dict[str, Any], meter: Any) -> Any:
    """The stack's trainer around the model."""
    if stack in WRAPS:
        import measure_wraps

        given = {"callbacks": [meter], "processing_class": tokenizer(config["vocab_size"])}
        given["train_dataset"] = examples("sft" if stack == "unsloth" else "trainer", config["vocab_size"], o)
        return measure_wraps.TRAINERS[stack](config, o, given)
    adapter = None
    if o.get("method") == "lora":
        import peft

        task = "SEQ_CLS" if stack == "reward" else "CAUSAL_LM"
        targets = o["targets"].split(",") if isinstance(o["targets"], str) else o["targets"]
        adapter = peft.LoraConfig(r=int(o["rank"]), target_modules=targets, lora_dropout=0.0, task_type=task)
    return around(stack, model_of(stack, config, o), adapter, config["vocab_size"], o, meter)


def around(stack: str, model: Any, adapter: Any, vocab: int, o: dict[str, Any], meter: Any) -> Any:
    """The trainer of transformers or TRL around ``model``; ``adapter``: a config of peft that it is to apply."""
    import transformers

    given = {"train_dataset": examples(stack, vocab, o), "callbacks": [meter]}
    if stack == "trainer":
        if adapter is not None:
            import peft

            model = peft.get_peft_model(model, adapter)
        args = transformers.TrainingArguments(**arguments(stack, o))
        return transformers.Trainer(model=model, args=args, data_collator=transformers.default_data_collator, **given)
    import trl

    given |= {"processing_class": tokenizer(vocab), "peft_config": adapter}
    if stack == "sft":
        return trl.SFTTrainer(model=model, args=trl.SFTConfig(**arguments(stack, o)), **given)
    if stack == "reward":
        return trl.RewardTrainer(model=model, args=trl.RewardConfig(**arguments(stack, o)), **given)
    if stack == "grpo":
        given["rollout_func"] = rollouts(vocab, o)
        given["reward_funcs"] = lambda completions, **more: [float(i % 3) for i in range(len(completions))]
        return trl.GRPOTrainer(model=model, args=trl.GRPOConfig(**arguments(stack, o)), **given)
    import copy

    if adapter is None and o.get("reference") != "precomputed":
        given["ref_model"] = copy.deepcopy(model)
    return trl.DPOTrainer(model=model, args=trl.DPOConfig(**arguments(stack, o)), **given)


def measure(stack: str, config: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Bytes at the start of the last step, at most in its passes and in its update, and what was reserved."""
    if stack == "unsloth":
        import unsloth  # noqa: F401 before what it patches
    import torch
    import transformers

    seen: dict[str, Any] = {}
    times: list[float] = []

    class Meter(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **more: Any) -> None:
            torch.cuda.synchronize()
            times.append(time.perf_counter())
            torch.cuda.reset_peak_memory_stats()
            seen["start"] = torch.cuda.memory_allocated()

        def on_pre_optimizer_step(self, *args: Any, **more: Any) -> None:
            seen["passes"] = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()

        def on_optimizer_step(self, *args: Any, **more: Any) -> None:
            seen["step"] = torch.cuda.max_memory_allocated()

        def on_step_end(self, *args: Any, **more: Any) -> None:
            torch.cuda.synchronize()
            times[-1] = time.perf_counter() - times[-1]

    trainer = trainer_of(stack, config, options, Meter())
    gc.collect()
    torch.cuda.empty_cache()
    trainer.train()
    free, total = torch.cuda.mem_get_info()
    shown = {"reserved": torch.cuda.max_memory_reserved(), "device": total - free}
    return {**seen, "peak": max(seen["passes"], seen["step"]), "seconds": times[-2:], **shown}


def sharded_case(stack: str, model: str, o: dict[str, Any]) -> dict[str, Any]:
    """Options of ``llmcalc memory`` as a case of measure_sharded.py."""
    half = "fp16" if o.get("dtype") == "fp16" else "bf16"
    out: dict[str, Any] = {
        "stack": SHARDED[stack], "model": model, "batch": int(o.get("batch_size", 1)), "seq": int(o["seq_len"]),
        "stage": int(o["stage"]), "precision": "mixed" if o.get("recipe") == "torch-mixed" else half,
        "checkpoint": o.get("checkpointing") == "full", "accumulation": int(o.get("accumulation", 1)),
        "auto": o.get("buckets") == "auto", "quant": o.get("quantization") == "nf4-dq",
        "adapter_fp32": (o.get("args") or {}).get("autocast_adapter_dtype", True),
    }  # fmt: skip
    if o.get("method") == "lora":
        out["lora"] = int(o["rank"])
    if o.get("offload", "none") != "none":
        out["offload"] = o["offload"]
    return out


def finished(line: list[str], given: str | None = None) -> str:
    """What Python printed, run with these arguments; RuntimeError with the last line of its complaint."""
    ran = subprocess.run([sys.executable, *line], input=given, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError((ran.stderr.strip().splitlines() or ["no output"])[-1])
    return ran.stdout


def of_one(launcher: list[str], config: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """What measure_sharded.py, run by ``launcher``, records of one case; RuntimeError as :func:`finished`."""
    script = str(Path(__file__).with_name("measure_sharded.py"))
    with tempfile.TemporaryDirectory() as folder:
        out, given = Path(folder) / "out.json", Path(folder) / "cases.json"
        given.write_text(json.dumps({"configs": {case["model"]: config}, "cases": [case]}))
        finished([*launcher, script, str(out), str(given)])
        (found,) = json.loads(out.read_text())["cases"]
    return dict(found)


def sharded(stack: str, config: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """The bytes of one sharded case, measured under a torchrun of its own: rank 0's, by phase."""
    name, gpus = case["model"], str(case["options"]["gpus"])
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", gpus]
    found = of_one(launcher, config, sharded_case(stack, name, case["options"]))
    phases = {"forward": "fwd_peak", "backward": "bwd_peak", "step": "step_peak", "peak": "peak", "load": "load"}
    return {key: found[own] for key, own in phases.items()}


def one() -> None:
    """The case on standard input, measured in this process; its figures on the last line."""
    given = json.load(sys.stdin)
    how = measure
    if given["stack"] in CODES:
        import measure_codes

        how = measure_codes.measure
    print(json.dumps(how(given["stack"], given["config"], given["options"])))


def alone(stack: str, config: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case, measured in a process of its own."""
    asked = {"stack": stack, "config": config, "options": options}
    found: dict[str, Any] = json.loads(finished([__file__], json.dumps(asked)).strip().splitlines()[-1])
    return found


def run(target: str, source: str, stack: str) -> None:
    """Measure every case of ``source`` under ``stack``; write what ``llmcalc validate`` reads."""
    import importlib.metadata as installed

    given = json.loads(Path(source).read_text())
    found = {d.metadata["Name"].lower(): d.version for d in installed.distributions()}
    names = ("torch", "transformers", "accelerate", "peft", "trl", "bitsandbytes", "liger-kernel", "deepspeed",
             "torchtune", "litgpt")  # fmt: skip
    done = []
    for case in given["cases"]:
        config = given["configs"][case["model"]]
        try:
            measured = sharded(stack, config, case) if stack in SHARDED else alone(stack, config, case["options"])
        except RuntimeError as error:
            print(f"{case['id']}: {str(error)[:200]}", flush=True)
            continue
        recipe = stack if stack not in SHARDED else "deepspeed" if stack == "deepspeed" else "torch-bf16"
        options = {"recipe": recipe, **({"optimizer": "adamw-fused"} if stack in SHARDED else {}), **case["options"]}
        done.append({**case, "kind": "train", "options": options, "measured": measured})
        print(f"{case['id']}: {measured['peak'] / 2**30:.3f} GiB", flush=True)
    meta = {name: found[name] for name in names if name in found}
    Path(target).write_text(json.dumps({"meta": meta, "configs": given["configs"], "cases": done}, indent=1))


if __name__ == "__main__":
    one()
