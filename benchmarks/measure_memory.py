"""Measure peak memory of real training and generation steps on your GPU, for ``llmcalc validate FILE.json``.

    pip install torch transformers peft        # bitsandbytes too, for cases with "quant"
    python benchmarks/measure_memory.py OUT.json CASES.json

CASES.json is ``{"configs": {name: config.json}, "cases": [{"id", "kind", "model", "batch", "seq", ...}]}``. A case has
``kind`` "train" or "infer" and may have ``precision`` (bf16, amp, fp32), ``optimizer``, ``attn`` (sdpa, eager),
``checkpoint``, ``method`` "lora" with ``rank`` and ``targets`` (and ``dora``), ``method`` "freeze" with ``top``,
``quant`` (NF4; true: double quantisation), ``new_tokens``, ``logits_to_keep``. Weights are random, dropout is 0. Three
steps are taken; the last one, the steady state, is written.

``--stack trainer``, ``sft``, ``dpo``, ``reward``, ``grpo``, ``ddp``, ``fsdp``, ``deepspeed``, ``torchtune``,
``litgpt``, ``unsloth`` or ``axolotl``: under that library, with cases as measure_stacks.py says.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

SEQ2SEQ, SPEECH, MASKED = ("t5", "bart"), ("whisper",), ("bert", "roberta", "distilbert", "modernbert", "albert")
DTYPES = {"bf16": torch.bfloat16, "amp": torch.float32, "fp32": torch.float32}
STEPS = 3
DEVICE = "cuda"


def build(config: dict[str, Any], dtype: torch.dtype, attn: str, quant: bool | None, kind: Any = None) -> Any:
    """A model with random weights on the GPU, of the class ``kind`` (None: the language model of its type)."""
    fields = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    made = transformers.AutoConfig.for_model(config["model_type"], **fields)
    for name in list(vars(made)):
        if "dropout" in name or name.endswith("_pdrop"):
            setattr(made, name, 0.0)
    if kind is None:
        kind = transformers.AutoModelForCausalLM
        kind = transformers.AutoModelForSeq2SeqLM if config["model_type"] in SEQ2SEQ else kind
        kind = transformers.AutoModelForSpeechSeq2Seq if config["model_type"] in SPEECH else kind
        kind = transformers.AutoModelForMaskedLM if config["model_type"] in MASKED else kind
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(DEVICE):
            model = kind.from_config(made, attn_implementation=attn)
    finally:
        torch.set_default_dtype(before)
    return model if quant is None else pack(model, dtype, quant)


def inputs(config: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """Random tokens of a batch; a model that hears gets the spectrogram of its whole window too."""
    ids = torch.randint(0, config["vocab_size"], (case["batch"], case["seq"]), device=DEVICE)
    if config["model_type"] not in SPEECH:
        return {"input_ids": ids, "labels": ids}
    frames, dtype = 2 * config["max_source_positions"], DTYPES[case.get("precision", "bf16")]
    heard = torch.zeros(case["batch"], config["num_mel_bins"], frames, device=DEVICE, dtype=dtype)
    return {"input_features": heard, "labels": ids}


def pack(model: Any, dtype: torch.dtype, double: bool) -> Any:
    """Every linear layer but the head as bitsandbytes' NF4."""
    import bitsandbytes as bnb

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and name not in ("lm_head", "score"):
                packed = bnb.nn.Linear4bit(
                    child.in_features,
                    child.out_features,
                    child.bias is not None,
                    compute_dtype=dtype,
                    compress_statistics=double,
                    quant_type="nf4",
                )
                packed.weight = bnb.nn.Params4bit(
                    child.weight.data.cpu(), requires_grad=False, compress_statistics=double, quant_type="nf4"
                )
                setattr(module, name, packed.to("cuda"))
    return model


def optimizer_of(name: str, params: list[Any]) -> Any:
    """The optimizers that llmcalc knows by these names."""
    optim = torch.optim
    if name == "adamw8bit":
        import bitsandbytes as bnb

        return bnb.optim.AdamW8bit(params, lr=1e-5)
    return {
        "adamw": lambda: optim.AdamW(params, lr=1e-5),
        "adamw-fused": lambda: optim.AdamW(params, lr=1e-5, fused=True),
        "adamw-forloop": lambda: optim.AdamW(params, lr=1e-5, foreach=False),
        "sgd": lambda: optim.SGD(params, lr=1e-5),
        "sgd-momentum": lambda: optim.SGD(params, lr=1e-5, momentum=0.9),
        "adafactor": lambda: optim.Adafactor(params, lr=1e-5),
    }[name]()


def adapted(model: Any, case: dict[str, Any]) -> Any:
    """The model with its adapter, or with its lower layers frozen."""
    if case.get("method") == "lora":
        import peft

        task = "SEQ_2_SEQ_LM" if model.config.model_type in SEQ2SEQ else "CAUSAL_LM"
        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=case["rank"], target_modules=case["targets"], use_dora=case.get("dora", False), task_type=task
            ),
        )
    if case.get("method") == "freeze":
        model.requires_grad_(False)
        layers = model.model.layers if hasattr(model, "model") else model.transformer.h
        for layer in layers[-case["top"] :]:
            layer.requires_grad_(True)
    return model


def clear() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak(run: Any) -> tuple[Any, int]:
    """What ``run`` returns, and the most that was allocated meanwhile."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    made = run()
    return made, torch.cuda.max_memory_allocated()


def train(case: dict[str, Any], config: dict[str, Any]) -> dict[str, int]:
    """Peaks of the forward pass, the backward pass and the optimizer step."""
    precision = case.get("precision", "bf16")
    model = adapted(build(config, DTYPES[precision], case.get("attn", "sdpa"), case.get("quant")), case)
    model.config.use_cache = False
    if case.get("checkpoint"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if "method" in case:
            model.enable_input_require_grads()
    model.train()
    clear()
    out = {"load": torch.cuda.memory_allocated()}
    optimizer = optimizer_of(case.get("optimizer", "adamw"), [p for p in model.parameters() if p.requires_grad])
    given = inputs(config, case)
    for _ in range(STEPS):
        out["start"] = torch.cuda.memory_allocated()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "amp"):
            loss, out["forward"] = peak(lambda: model(**given).loss)
        _, out["backward"] = peak(loss.backward)
        _, out["step"] = peak(optimizer.step)
        optimizer.zero_grad(set_to_none=True)
        del loss
    out["peak"] = max(out["forward"], out["backward"], out["step"])
    return out


@torch.no_grad()
def infer(case: dict[str, Any], config: dict[str, Any]) -> dict[str, int]:
    """Peaks of the prefill and of the decode steps."""
    model = build(config, torch.bfloat16, case.get("attn", "sdpa"), case.get("quant")).eval()
    model.config.use_cache = True
    clear()
    out = {"load": torch.cuda.memory_allocated()}
    ids = torch.randint(0, config["vocab_size"], (case["batch"], case["seq"]), device=DEVICE)
    made, out["prefill"] = peak(
        lambda: model(input_ids=ids, use_cache=True, logits_to_keep=case.get("logits_to_keep", 1))
    )
    past = made.past_key_values
    del made

    def decode() -> None:
        token = ids[:, -1:]
        for _ in range(case.get("new_tokens", 8)):
            token = model(input_ids=token, past_key_values=past, use_cache=True).logits[:, -1:].argmax(-1)

    _, out["decode"] = peak(decode)
    out["peak"] = max(out["prefill"], out["decode"])
    return out


def main() -> None:
    """Measure every case and write what ``llmcalc validate`` reads."""
    target, source = sys.argv[1:3]
    if "--stack" in sys.argv:
        import measure_stacks

        stack = sys.argv[sys.argv.index("--stack") + 1]
        known = (*measure_stacks.STACKS, *measure_stacks.SHARDED, *measure_stacks.CODES, *measure_stacks.WRAPS)
        if stack not in known:
            raise SystemExit(f"--stack: one of {', '.join(known)}")
        measure_stacks.run(target, source, stack)
        return
    given = json.loads(Path(source).read_text())
    meta = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name(),
    }
    done = []
    for case in given["cases"]:
        measured = (train if case["kind"] == "train" else infer)(case, given["configs"][case["model"]])
        free, total = torch.cuda.mem_get_info()
        measured |= {"reserved": torch.cuda.max_memory_reserved(), "device": total - free}
        done.append(case | {"measured": measured})
        print(f"{case['id']}: {measured['peak'] / 2**30:.3f} GiB", flush=True)
        clear()
        Path(target).write_text(json.dumps({"meta": meta, "configs": given["configs"], "cases": done}, indent=1))


if __name__ == "__main__":
    main()
