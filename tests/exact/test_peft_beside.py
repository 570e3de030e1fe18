"""All-linear of models with matrices beside their layers, held to peft 0.21.0 and transformers 5.17 on the meta
device: Gemma 4's projection of the layers' inputs, Gemma 3n's copies of the stream."""

from __future__ import annotations

import pytest

from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.config import Config
from estimator.models import Model
from estimator.questions import ask

SIZES = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 64, "hidden_size_per_layer_input": 32, "vocab_size": 1000,
    "vocab_size_per_layer_input": 1000, "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
}  # fmt: skip
OWN = {
    "gemma4_text": ({"global_head_dim": 128}, 220_672),
    "gemma3n_text": ({"laurel_rank": 16, "activation_sparsity_pattern": [0.0] * 6}, 275_968),
}


@pytest.mark.parametrize("kind", OWN)
def test_all_linear(kind):
    more, trained = OWN[kind]
    model = Model(kind, "file", Config(SIZES | more | {"model_type": kind}))
    asked = {"mode": "training", "method": "lora", "rank": "8", "targets": "all-linear", "seq_len": "64"}
    assert plan(ask(Memory, model, asked)).adapter.trained == trained
