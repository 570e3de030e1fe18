"""Record the parameters of flash-linear-attention's RWKV 7 at some sizes: tests/data/rwkv7.json.

python -m venv v && v/bin/pip install torch transformers flash-linear-attention==0.6.0
v/bin/python tests/data/make_rwkv7.py
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import torch
import transformers

warnings.filterwarnings("ignore")
from fla.models.rwkv7 import RWKV7Config, RWKV7ForCausalLM  # noqa: E402

OPEN = dict.fromkeys(("decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim"))
# the first two are the sizes of fla-hub's 191M and 1.5B
CASES = (
    {"hidden_size": 768, "num_hidden_layers": 12, "decay_low_rank_dim": 64, "a_low_rank_dim": 64, "v_low_rank_dim": 32,
     "gate_low_rank_dim": 128, "vocab_size": 65536},
    {"hidden_size": 2048, "num_hidden_layers": 24, "decay_low_rank_dim": 96, "a_low_rank_dim": 96,
     "v_low_rank_dim": 64, "gate_low_rank_dim": 256, "vocab_size": 65536},
    {"hidden_size": 256, "num_hidden_layers": 3, "vocab_size": 1000},
    {"hidden_size": 512, "num_hidden_layers": 2, "vocab_size": 1000, "head_dim": 128, **OPEN, "norm_bias": False,
     "intermediate_size": 1000, "tie_word_embeddings": True},
    {"hidden_size": 640, "num_hidden_layers": 2, "vocab_size": 1000, **OPEN, "norm_first": False, "hidden_ratio": 3},
    {"hidden_size": 384, "num_hidden_layers": 4, "vocab_size": 1000, "head_dim": None, "num_heads": 12},
)  # fmt: skip


def recorded(config):
    with torch.device("meta"):
        model = RWKV7ForCausalLM(RWKV7Config(**config))
    found = {}
    for name, p in model.named_parameters():
        layer = re.search(r"layers\.(\d+)\.", name)
        pattern = name if layer is None else name.replace(layer[0], "layers.{i}.")
        found.setdefault(json.dumps([pattern, list(p.shape)]), []).append(int(layer[1]) if layer else 0)
    tensors = [[*json.loads(key), at] for key, at in found.items()]
    return {"config": {"model_type": "rwkv7", **config}, "tensors": tensors,
            "total": sum(p.numel() for p in model.parameters())}  # fmt: skip


def main():
    source = f"flash-linear-attention 0.6.0, transformers {transformers.__version__}, on PyTorch's meta device"
    rows = ",\n  ".join(json.dumps(recorded(c)) for c in CASES)
    Path(__file__).with_name("rwkv7.json").write_text(f'{{\n "source": "{source}",\n "cases": [\n  {rows}\n ]\n}}\n')


if __name__ == "__main__":
    main()
