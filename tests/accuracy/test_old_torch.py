"""BERT-large of transformers' old guide on a V100: what PyTorch 1.10 does otherwise.

The figures are of docs/source/en/perf_train_gpu_one.mdx and model_memory_anatomy.md (v4.2x). Today's stack needs 13%
more to 23% less than they show, and was measured so (test_stacks_wrapped). Four things are of their time: the context
takes 1,343 MiB (the guide's own figure), AdamW steps tensor by tensor, gradients are kept between steps, and softmax
keeps its input for the backward pass beside its output (SavedVariable self_ of SoftmaxBackward0 in
autograd/generated/Functions.h of torch 1.9.1 and 1.10.2; 1.11.0 keeps its type alone).
"""

from __future__ import annotations

import pytest

from estimator.commands.memory.report import memory
from estimator.config import Config
from estimator.models import Model
from estimator.schemas import MIB

CONTEXT = 1343  # MiB
LAYERS, HEADS, LENGTH, F32 = 24, 16, 512, 4
BERT_LARGE = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 1024, "intermediate_size": 4096,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "max_position_embeddings": LENGTH, "type_vocab_size": 2,
    "architectures": ["BertForSequenceClassification"], "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "options", "shown"),
    [
        (1, {"autocast": "none", "optimizer": "adamw-forloop", "accumulation": "4"}, 8681),
        (1, {"autocast": "none", "optimizer": "adamw-forloop", "accumulation": "4", "checkpointing": "full"}, 6775),
        (4, {"autocast": "none", "optimizer": "adamw-forloop"}, 14949),
        (4, {"autocast": "bf16", "optimizer": "adamw-forloop"}, 13939),
        (1, {"autocast": "bf16", "optimizer": "adamw-forloop", "accumulation": "4", "checkpointing": "full"}, 7275),
        (4, {"autocast": "none", "optimizer": "adafactor"}, 12295),
        (1, {"autocast": "bf16", "optimizer": "adamw_bnb_8bit", "accumulation": "4", "checkpointing": "full"}, 5363),
    ],
)
def test_a_guide_of_2022(batch, options, shown):
    """Within 2% of what the driver showed, 4% under autocast without checkpointing; no rests of segments are in it."""
    r = memory(
        Model("bert-large", "file", Config(BERT_LARGE)), mode="training", recipe="trainer", dtype="fp32",
        gradients="kept", attention="eager", batch_size=str(batch), seq_len=str(LENGTH), **options,
    ).results()  # fmt: skip
    kept = (1 if "checkpointing" in options else LAYERS) * batch * HEADS * LENGTH * LENGTH * F32
    passes = max(r["moments.forward_bytes"], r["moments.backward_bytes"]) + kept
    needed = max(passes, r["moments.step_bytes"]) / MIB + CONTEXT
    assert abs(needed / shown - 1) <= (0.041 if batch == 4 and options["autocast"] == "bf16" else 0.02)
