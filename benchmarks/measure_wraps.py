"""Unsloth's and Axolotl's trainers for ``measure_memory.py --stack``: what they put around a model before it trains.

    pip install unsloth                      # for --stack unsloth
    pip install --no-deps axolotl addict     # for --stack axolotl: its kernels and loader's rules alone

Unsloth loads a model of random weights from a folder, as it loads any, and trains it under TRL's SFTTrainer. Of Axolotl
what its loader does is done here (loaders/model.py, _configure_embedding_dtypes), with its own LoRA kernels patched in,
under transformers' Trainer.
"""

from __future__ import annotations

import sys
import tempfile
import types
from typing import Any

EVERY = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def targets_of(o: dict[str, Any]) -> list[str]:
    """The options' modules as a list."""
    given = o.get("targets", EVERY)
    return list(given.split(",") if isinstance(given, str) else given)


def folder_of(config: dict[str, Any], tokens: Any) -> str:
    """A folder that holds the model with random weights in bf16, and a tokenizer."""
    import torch
    from measure_memory import build

    folder = tempfile.mkdtemp()
    model = build(config, torch.bfloat16, "sdpa", None)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def unsloth_trainer(config: dict[str, Any], o: dict[str, Any], given: dict[str, Any]) -> Any:
    """FastLanguageModel under TRL's SFTTrainer; checkpoints as Unsloth keeps them unless the options say otherwise."""
    import gc

    import torch
    import trl
    import unsloth
    from measure_stacks import arguments

    folder = folder_of(config, given["processing_class"])
    gc.collect()
    torch.cuda.empty_cache()
    full = o.get("method", "full") == "full"
    checkpoints = {"full": True, "none": False}.get(str(o.get("checkpointing")), "unsloth")
    model, tokens = unsloth.FastLanguageModel.from_pretrained(
        folder, max_seq_length=int(o["seq_len"]), dtype=torch.bfloat16, full_finetuning=full,
        load_in_4bit=str(o.get("quantization")) in ("nf4", "nf4-dq"), use_gradient_checkpointing=checkpoints,
    )  # fmt: skip
    if not full:
        model = unsloth.FastLanguageModel.get_peft_model(
            model, r=int(o["rank"]), target_modules=targets_of(o), lora_alpha=16, lora_dropout=0,
            use_gradient_checkpointing=checkpoints,
        )  # fmt: skip
    args = arguments("sft", o)
    args.pop("gradient_checkpointing_kwargs")
    args.pop("gradient_checkpointing")
    return trl.SFTTrainer(model=model, args=trl.SFTConfig(**args), **given | {"processing_class": tokens})


def axolotl_trainer(config: dict[str, Any], o: dict[str, Any], given: dict[str, Any]) -> Any:
    """transformers' Trainer around a model as Axolotl's loader leaves it, with its LoRA kernels."""
    import axolotl.utils
    import torch
    import transformers

    bare = types.ModuleType("axolotl.utils.callbacks")  # its __init__ wants all of Axolotl's needs
    bare.__path__ = [f"{axolotl.utils.__path__[0]}/callbacks"]
    sys.modules.setdefault(bare.__name__, bare)
    from axolotl.monkeypatch.lora_kernels import apply_lora_kernel_patches, patch_self_attn_lora
    from axolotl.utils.dict import DictDefault
    from measure_stacks import arguments, model_of

    folder = tempfile.mkdtemp()
    fields = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    transformers.AutoConfig.for_model(config["model_type"], **fields).save_pretrained(folder)
    kernels = {f"lora_{x}_kernel": True for x in ("mlp", "qkv", "o", "embedding")}
    cfg = DictDefault({"base_model": folder, "model_config_type": config["model_type"], **kernels})
    lora = o.get("method") == "lora"
    if lora:
        patch_self_attn_lora(cfg)
    packed = o.get("quantization") is not None
    model = model_of("trainer", config, {**o, "prepare_kbit": packed})
    if lora:
        import peft

        for name, module in model.named_modules():
            if "norm" in name or any(x in name for x in ("embed_tokens", "lm_head")):
                module.to(torch.bfloat16)
        adapter = peft.LoraConfig(
            r=int(o["rank"]), target_modules=targets_of(o), lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM"
        )
        model = peft.get_peft_model(model, adapter)
        apply_lora_kernel_patches(model, cfg)
    given.pop("processing_class")
    args = transformers.TrainingArguments(**arguments("trainer", o))
    return transformers.Trainer(model=model, args=args, data_collator=transformers.default_data_collator, **given)


TRAINERS = {"unsloth": unsloth_trainer, "axolotl": axolotl_trainer}
