"""Measure steps of torchtune's and litgpt's own models on your GPU: what ``measure_memory.py --stack`` runs of them.

    pip install torch torchtune torchao litgpt

The models are the libraries', of a Llama's or Qwen 2's config; the loops are those of their recipes
(torchtune 0.6.1, recipes/full_finetune_single_device.py; litgpt 0.5.13, finetune/full.py and lora.py) without data
loading and logging. Options: batch_size, seq_len, optimizer (adamw, adamw-fused), checkpointing (torchtune), method
lora with rank and targets q_proj, k_proj, v_proj, o_proj.
"""

from __future__ import annotations

import gc
import time
from typing import Any

STACKS = ("torchtune", "litgpt")
STEPS = 4


def targets_of(o: dict[str, Any]) -> list[str]:
    return list(o["targets"].split(",") if isinstance(o["targets"], str) else o["targets"])


def torchtune_model(c: dict[str, Any], o: dict[str, Any]) -> Any:
    """Its decoder, in eight parts of the tokens at the end, checkpointed where asked."""
    from importlib import import_module

    from torchtune import modules
    from torchtune.modules import peft
    from torchtune.modules.loss import CEWithChunkedOutputLoss

    sizes = {
        "vocab_size": c["vocab_size"], "num_layers": c["num_hidden_layers"], "num_heads": c["num_attention_heads"],
        "num_kv_heads": c["num_key_value_heads"], "embed_dim": c["hidden_size"],
        "intermediate_dim": c["intermediate_size"], "max_seq_len": c["max_position_embeddings"],
    }  # fmt: skip
    tied = bool(c.get("tie_word_embeddings"))
    name = "qwen2" if c["model_type"] == "qwen2" else "llama3_2" if tied else "llama3_1"
    builders = import_module(f"torchtune.models.{name}._component_builders")
    if name != "llama3_1":
        sizes["tie_word_embeddings"] = tied
    if o.get("method") == "lora":
        renamed = {"o_proj": "output_proj"}
        sizes |= {"lora_attn_modules": [renamed.get(x, x) for x in targets_of(o)], "lora_rank": int(o["rank"]),
                  "lora_alpha": 16}  # fmt: skip
        model = getattr(builders, f"lora_{name}")(**sizes)
        peft.set_trainable_params(model, peft.get_adapter_params(model))
    else:
        model = getattr(builders, name)(**sizes)
    model.set_num_output_chunks(CEWithChunkedOutputLoss().num_output_chunks)
    if o.get("checkpointing") == "full":
        from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
        from torch.distributed.fsdp.wrap import ModuleWrapPolicy

        # what its set_activation_checkpointing calls
        policy = ModuleWrapPolicy({modules.TransformerSelfAttentionLayer})
        apply_activation_checkpointing(model, auto_wrap_policy=policy)
    return model


def torchtune_step(model: Any, ids: Any, labels: Any) -> Any:
    """_loss_step of its recipes, and what they multiply and divide by."""
    import torch
    from torchtune.modules.loss import CEWithChunkedOutputLoss

    tokens = (labels != -100).sum()

    def loss_step() -> Any:
        logits = model(tokens=ids)
        ignored = torch.full((ids.shape[0], 1), -100, device=ids.device)
        loss = CEWithChunkedOutputLoss()(logits, torch.hstack((labels[..., 1:], ignored)))
        del logits
        return loss

    loss = loss_step() * tokens
    loss.backward()
    for p in model.parameters():
        if p.grad is not None:
            p.grad *= 1 / tokens
    return loss


def litgpt_model(c: dict[str, Any], o: dict[str, Any]) -> Any:
    """Its GPT; its LoRA has one adapter for queries, keys and values."""
    import litgpt
    import litgpt.lora

    sizes = {
        "n_layer": c["num_hidden_layers"], "n_embd": c["hidden_size"], "n_head": c["num_attention_heads"],
        "n_query_groups": c["num_key_value_heads"], "intermediate_size": c["intermediate_size"],
        "vocab_size": c["vocab_size"], "padded_vocab_size": c["vocab_size"], "block_size": int(o["seq_len"]),
        "rotary_percentage": 1.0, "parallel_residual": False, "bias": False, "norm_class_name": "RMSNorm",
        "mlp_class_name": "LLaMAMLP",
    }  # fmt: skip
    if o.get("method") != "lora":
        return litgpt.GPT(litgpt.Config(**sizes))
    names = {"q_proj": "lora_query", "k_proj": "lora_key", "v_proj": "lora_value", "o_proj": "lora_projection"}
    sizes |= {"lora_r": int(o["rank"]), "lora_alpha": 16} | {names[x]: True for x in targets_of(o)}
    model = litgpt.lora.GPT(litgpt.lora.Config(**sizes))
    litgpt.lora.mark_only_lora_as_trainable(model)
    return model


def litgpt_step(model: Any, ids: Any, labels: Any) -> Any:
    """A step of its loop, which names the logits until the next; under LoRA the head runs 128 tokens at a time."""
    from litgpt.utils import chunked_cross_entropy

    if any(p.requires_grad for p in model.lm_head.parameters()):
        logits = model(ids)
        loss = chunked_cross_entropy(logits[..., :-1, :], labels[..., 1:])
    else:
        logits = model(ids, lm_head_chunk_size=128)
        logits[-1] = logits[-1][..., :-1, :]
        loss = chunked_cross_entropy(logits, labels[..., 1:])
    loss.backward()
    return loss, logits


def measure(stack: str, config: dict[str, Any], o: dict[str, Any]) -> dict[str, Any]:
    """Bytes at the start of the last step, at most in its passes and in its update, and what was reserved."""
    import torch

    build, step = {"torchtune": (torchtune_model, torchtune_step), "litgpt": (litgpt_model, litgpt_step)}[stack]
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = build(config, o).train()
    torch.set_default_dtype(torch.float32)
    fused = o.get("optimizer") == "adamw-fused"
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=fused or None)
    ids = torch.randint(0, config["vocab_size"], (int(o.get("batch_size", 1)), int(o["seq_len"])), device="cuda")
    gc.collect()
    torch.cuda.empty_cache()
    seen: dict[str, Any] = {"load": torch.cuda.memory_allocated()}
    times = []
    for _ in range(STEPS):
        torch.cuda.synchronize()
        times.append(time.perf_counter())
        torch.cuda.reset_peak_memory_stats()
        seen["start"] = torch.cuda.memory_allocated()
        held = step(model, ids, ids.clone())  # noqa: F841 what the loop names lives on
        seen["passes"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        optimizer.step()
        seen["step"] = torch.cuda.max_memory_allocated()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times[-1] = time.perf_counter() - times[-1]
    free, total = torch.cuda.mem_get_info()
    shown = {"reserved": torch.cuda.max_memory_reserved(), "device": total - free}
    return {**seen, "peak": max(seen["passes"], seen["step"]), "seconds": times[-2:], **shown}
