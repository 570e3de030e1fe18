"""Count adapters with the peft library on shrunken models and write the cases that are not yet in peft_cases.json.gz.

Needs torch, transformers (5.23.0 when the file was written) and peft (0.21.2); the tests do not. A case is [config,
method, rank, targets, arguments, trained, frozen beside, numbers in the checkpoint]; three nulls: the library refuses.

    trained   elements of parameters with requires_grad after get_peft_model, shared ones once
    frozen    elements of parameters and buffers that the adapter adds and does not train, saved or not
    saved     elements in get_peft_model_state_dict(save_embedding_layers=False)

Run: python tests/data/make_peft_cases.py lora '{"r": 4, "target_modules": "all-linear"}' [preset ...]
"""

from __future__ import annotations

import gzip
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

HERE = Path(__file__).parent
CASES = HERE / "peft_cases.json.gz"
PRESETS = HERE.parents[1] / "presets" / "models"
TINY = {
    "num_hidden_layers": 3, "n_layer": 3, "n_layers": 3, "num_layers": 3, "num_decoder_layers": 2,
    "encoder_layers": 3, "decoder_layers": 2, "hidden_size": 64, "n_embd": 64, "d_model": 64, "intermediate_size":
    96, "n_inner": 96, "d_ff": 96, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "d_kv": 16, "vocab_size": 512, "num_local_experts": 4,
    "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48, "max_position_embeddings": 128, "n_positions": 128, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """The config with every size that it states made small."""
    small = {k: TINY.get(k, v) if v is not None else v for k, v in config.items()}
    if isinstance(small.get("layer_types"), list):
        small["layer_types"] = small["layer_types"][: small["num_hidden_layers"]]
    return small


def count(config: dict[str, Any], method: str, given: dict[str, Any]) -> list[int | None]:
    """[trained, frozen, saved], or nulls where the library refuses."""
    fields = {k: v for k, v in config.items() if k != "model_type"}
    made = transformers.AutoConfig.for_model(config["model_type"], **fields)
    model = getattr(transformers, config["architectures"][0])(made)
    model.tie_weights()
    own = {id(t) for t in (*model.parameters(), *model.buffers())}
    task = "SEQ_2_SEQ_LM" if made.is_encoder_decoder else "CAUSAL_LM"
    try:
        settings = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(method.upper())](task_type=task, **given)
        adapted = peft.get_peft_model(model, settings)
        held = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except Exception as error:
        print(f"refused: {error}", file=sys.stderr)
        return [None, None, None]
    parameters = {id(p): p for p in adapted.parameters()}
    buffers = {id(b): b for b in adapted.buffers()}
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    beside = [t for i, t in {**parameters, **buffers}.items() if i not in own and not t.requires_grad]
    return [trained, sum(t.numel() for t in beside), sum(v.numel() for v in held.values())]


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    method, given, *names = sys.argv[1:]
    data = json.loads(gzip.decompress(CASES.read_bytes()))
    for name in names or ["llama-3-8b"]:
        config = shrunk(json.loads((PRESETS / f"{name}.json").read_text())["config"])
        args = json.loads(given)
        counts = count(config, method, json.loads(given))
        data["configs"][f"small {name}"] = config
        case = [f"small {name}", method, args.pop("r", None), args.pop("target_modules", None), args, *counts]
        print(case)
        if case not in data["cases"]:
            data["cases"].append(case)
    with gzip.GzipFile(CASES, "wb", mtime=0) as file:
        file.write(json.dumps(data, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
