"""Record anew what transformers builds, caches and computes for presets and published configs.

    python tests/data/make_counts.py tensors|caches|flops

needs torch, transformers and peft (recorded with 2.13, 5.23 and 0.21.2; CPU only, nothing is downloaded).

tensors   model_tensors.json.gz: [name with numbers replaced by {i}, shape, how many] of every preset's parameters
caches    kvcache.json: bytes that a cache holds after so many tokens, on the meta device
flops     flops_cases.json.gz: FlopCounterMode of passes of configs with few layers: forward, last (one position's
          logits), decode (a token on ``context`` cached ones), train (ckpt: every layer again; lora; freeze: all but
          some layers); attn fused: SDPA as the memory-efficient kernel, which FlopCounterMode knows
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from make_family_variants_more import CACHES, Unasked, build, device, held, tensors
from torch.utils.flop_counter import FlopCounterMode

from estimator import presets
from estimator.models import load_model

HERE = Path(__file__).parent
FUSED = {"fused": "sdpa", "eager": "eager"}


def config_of(name: str) -> dict[str, Any]:
    config = load_model(name).config
    assert config is not None
    return dict(config.raw)


def renew_tensors() -> None:
    file = HERE / "model_tensors.json.gz"
    made = json.loads(gzip.decompress(file.read_bytes()))
    for name in presets.ids("models"):
        if config_of(name).get("model_type") in transformers.CONFIG_MAPPING:
            made[name] = tensors(config_of(name))
    file.write_bytes(gzip.compress(json.dumps(made, separators=(",", ":")).encode(), mtime=0))


def cache(name: str, batch: int, tokens: int, kind: str, encoder: int | None) -> int:
    """Bytes of every tensor that the cache holds."""
    config = config_of(name)
    model = build(config, torch.bfloat16)
    ids = torch.zeros(batch, tokens, dtype=torch.long, device=device(config))
    more: dict[str, Any] = {}
    if encoder is not None:
        more, ids = {"decoder_input_ids": ids}, ids.new_zeros(batch, encoder)
    if kind == "static":
        more["past_key_values"] = transformers.StaticCache(config=model.config, max_cache_len=tokens)
    with torch.no_grad(), Unasked():
        out = model(input_ids=ids, use_cache=True, **more)
    kept = [getattr(out, field, None) for field in CACHES]
    return sum(t.numel() * t.element_size() for t in held(kept, set()) if t.dim() > 1)


def renew_caches() -> None:
    file = HERE / "kvcache.json"
    data = json.loads(file.read_text())
    for case in data["cases"]:
        name, batch, tokens, _, kind, encoder, *_ = case
        case[6] = cache(name, batch, tokens, kind, encoder)
    rows = ",\n".join(f"  {json.dumps(case)}" for case in data["cases"])
    file.write_text(f'{{\n "about": {json.dumps(data["about"])},\n "cases": [\n{rows}\n ]\n}}\n')


def flops(config: dict[str, Any], case: dict[str, Any]) -> int:
    """FlopCounterMode's count of one pass."""
    model = build(config, torch.float32)
    model.set_attn_implementation(FUSED[case["attn"]])
    train = case["mode"] == "train"
    if "lora" in case:
        from peft import LoraConfig, get_peft_model

        given = dict(case["lora"])
        model = get_peft_model(model, LoraConfig(target_modules=given.pop("targets"), **given))
    if "freeze" in case:  # how the names of what trains begin
        for name, p in model.named_parameters():
            p.requires_grad_(name.startswith(tuple(case["freeze"])))
    if case.get("ckpt"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train(train)
    ids = torch.zeros(case["batch"], case.get("seq", case.get("context")), dtype=torch.long, device="meta")
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.set_grad_enabled(train), Unasked():
        if case["mode"] == "decode":
            held_ = model(input_ids=ids, use_cache=True, **more).past_key_values
            more, ids = {"past_key_values": held_}, ids[:, :1]
        elif case["mode"] == "last":
            more["logits_to_keep"] = 1
        with FlopCounterMode(display=False) as counter:
            out = model(input_ids=ids, use_cache=case["mode"] == "decode", **more)
            if train:
                out.logits.sum().backward()
    tables = (c for name, c in counter.get_flop_counts().items() if name.endswith("rotary_emb"))
    return int(counter.get_total_flops()) - sum(n for c in tables for n in c.values())


def fused(q: Any, k: Any, v: Any, attn_mask: Any = None, enable_gqa: bool = False, **_: Any) -> Any:
    """SDPA as one kernel."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v)) if enable_gqa else (k, v)
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]


def renew_flops() -> None:
    file = HERE / "flops_cases.json.gz"
    data = json.loads(gzip.decompress(file.read_bytes()))
    torch.nn.functional.scaled_dot_product_attention = fused
    for model in data["models"]:
        for case in model["cases"]:
            try:
                case["total"] = flops(model["config"], case)
            except RuntimeError as error:  # some adapters of stacked experts ask meta tensors for their type
                print("kept as it was:", model["id"], case, str(error).splitlines()[0][:90])
    file.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    {"tensors": renew_tensors, "caches": renew_caches, "flops": renew_flops}[sys.argv[1]]()
