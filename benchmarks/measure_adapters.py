"""Seconds of LoRA's forward and backward pass over a 16-bit base: plain, under autocast, over bitsandbytes' 4 bits.

    pip install torch transformers
    python benchmarks/measure_adapters.py    # prints one JSON object a line; tests/accuracy/adapter_times.json

The layers do what peft 0.21 does (tuners/lora/layer.py; lora/bnb.py, Linear4bit), the packed ones without unpacking a
weight: F.linear in 16 bits, its output in the input's width. "kbit" holds norms, embedding and head in fp32, as
prepare_model_for_kbit_training leaves them. Every layer is checkpointed.
"""

import json
import time

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

B, S, RANK, DROPOUT = 4, 4096, 16, 0.1
MODELS = (
    {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 8, "num_attention_heads": 32,
     "num_key_value_heads": 8, "vocab_size": 32000},
    {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 10, "num_attention_heads": 36,
     "num_key_value_heads": 36, "vocab_size": 32000},
)  # fmt: skip
# adapted, over packed layers, under autocast, prepared for kbit training, with dropout
CASES = ((0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 0, 0, 1), (1, 0, 1, 0, 1), (1, 1, 1, 0, 1), (1, 1, 1, 1, 1),
         (1, 1, 1, 1, 0))  # fmt: skip


class Adapted(nn.Module):
    """A linear layer with LoRA, or without it where ``rank`` is 0."""

    def __init__(self, base: nn.Linear, packed: bool, rank: int, drop: bool) -> None:
        super().__init__()
        self.base, self.packed, self.rank = base, packed, rank
        if rank:
            self.a = nn.Linear(base.in_features, rank, bias=False, device="cuda", dtype=torch.float32)
            self.b = nn.Linear(rank, base.out_features, bias=False, device="cuda", dtype=torch.float32)
            self.drop = nn.Dropout(DROPOUT) if drop else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.linear(x.to(torch.bfloat16), self.base.weight).to(x.dtype) if self.packed else self.base(x)
        if not self.rank:
            return y
        width = y.dtype
        if self.packed:
            y = y.clone()
        else:
            x = x.to(torch.float32)
        return (y + self.b(self.a(self.drop(x))) * 1.0).to(width)


def build(config: dict[str, int], adapted: int, packed: int, kbit: int, drop: int) -> LlamaForCausalLM:
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="sdpa"))
    torch.set_default_dtype(torch.float32)
    model.requires_grad_(not adapted)
    for name, p in model.named_parameters():
        if kbit and any(part in name for part in ("norm", "embed", "lm_head")):
            p.data = p.data.float()
    for layer in model.model.layers if adapted else ():
        for block in (layer.self_attn, layer.mlp):
            for name in [n for n, _ in block.named_children() if n.endswith("proj")]:
                rank = RANK if block is layer.self_attn else 0
                setattr(block, name, Adapted(getattr(block, name), bool(packed), rank, bool(drop)))
    if adapted:
        model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def seconds(model: LlamaForCausalLM, amp: int) -> float:
    """The second fastest of the last four of six passes."""
    x, taken = torch.randint(0, 1000, (B, S), device="cuda"), []
    for _ in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=bool(amp)):
            loss = model(x, labels=x, use_cache=False).loss
        loss.backward()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
        model.zero_grad()
    return sorted(taken[2:])[1]


if __name__ == "__main__":
    for config in MODELS:
        for adapted, packed, amp, kbit, drop in CASES:
            s = seconds(build(config, adapted, packed, kbit, drop), amp)
            print(json.dumps({"model": config["hidden_size"], "case": [adapted, packed, amp, kbit, drop], "s": s}))
            torch.cuda.empty_cache()
