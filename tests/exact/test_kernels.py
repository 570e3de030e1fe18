"""The kernels between the products, against what torch dispatches for transformers' own classes on no device.

Recorded by benchmarks/record_kernels.py: eight layers of a preset of each family, 2 x 128 tokens in bf16 with SDPA;
kernels, bytes over contiguous tensors, elements over broadcast or permuted ones, elements of LayerNorm.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from estimator.config import Config
from estimator.models import Model, load_model
from estimator.stack.moves import AGAIN, BACKWARD, FORWARD, Kernel
from estimator.work.run import operations
from estimator.work.workload import PassSizes

RECORD = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "kernels.json.gz").read_bytes()))
ABOUT, LAYERS = RECORD["about"], RECORD["layers"]
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers", "encoder_layers",
          "decoder_layers")  # fmt: skip
# every count is the same, forward and backward
EXACT = (
    "albert-base-v2-encoder", "bert-base-uncased", "codellama-34b", "distilbert-base", "distilgpt2",
    "gemma-3-12b-multimodal", "granite-3.1-2b", "phi-1.5", "qwen1.5-0.5b", "qwen3-0.6b", "roberta-base", "smollm3-3b",
    "stablelm-2-1.6b", "starcoder-15b",
)  # fmt: skip
# a forward pass is; of the backward pass the copies of gradients that were split by heads differ
FORWARD_EXACT = (*EXACT, "falcon-180b", "gpt-neox-20b", "modernbert-base")
# transformers 5.24 checks a mask of experts no more, loops over tokens elsewhere, or has a kernel in one node
OTHER = ("bloom-176b", "codestral-mamba-7b", "falcon-mamba-7b", "jamba-v0.1", "mamba-1.4b", "mpt-7b", "phi-3.5-moe",
         "flan-t5-base")  # fmt: skip


def shortened(raw: dict[str, Any], layers: int) -> Model:
    raw = raw | {f: layers for f in DEPTHS if f in raw}
    if isinstance(raw.get("layer_types"), list):
        raw["layer_types"] = raw["layer_types"][:layers]
    return Model("shortened", "file", Config(raw))


def counted(model: Model, mode: str, phase: str, **more: Any) -> list[Any]:
    """Kernels, bytes, strided and LayerNorm's elements of one phase of a pass."""
    work = PassSizes(mode, ABOUT["batch"], ABOUT["tokens"], **more)
    made = [k for k in operations(model.architecture, work) if isinstance(k, Kernel) and k.phase == phase]
    return [sum(k.times * getattr(k, f) for k in made) for f in ("launches", "moved", "strided", "welford")]


def layers(name: str, mode: str, phase: str) -> list[Any]:
    """The same of as many layers as were recorded."""
    config = load_model(name).config
    assert config is not None
    n, caches = ABOUT["layers"], mode == "forward"
    one, two = (counted(shortened(dict(config.raw), k), mode, phase, caches=caches) for k in (n, 2 * n))
    return [b - a for a, b in zip(one, two, strict=True)]


@pytest.mark.parametrize("name", FORWARD_EXACT)
def test_forward(name: str) -> None:
    assert layers(name, "forward", FORWARD) == LAYERS[name]["prefill"]
    assert layers(name, "training", FORWARD) == LAYERS[name]["forward"]


@pytest.mark.parametrize("name", EXACT)
def test_backward(name: str) -> None:
    assert layers(name, "training", BACKWARD) == LAYERS[name]["backward"]


@pytest.mark.parametrize("name", [n for n in LAYERS if n not in (*FORWARD_EXACT, *OTHER)])
def test_launches_of_other_classes(name: str) -> None:
    """A fifth at most is missing or too much, of what a layer launches."""
    for mode, phase, key in (("forward", FORWARD, "prefill"), ("training", BACKWARD, "backward")):
        assert layers(name, mode, phase)[0] == pytest.approx(LAYERS[name][key][0], rel=0.2)


def test_checkpointing_runs_a_layer_again_but_for_its_end() -> None:
    """All but what follows the last tensor that is kept: the addition to the residual stream."""
    model = shortened(dict(load_model("llama-3.2-1b").config.raw), 1)  # type: ignore[union-attr]
    once = operations(model.architecture, PassSizes("training", 2, 128, checkpointing=True))
    made = [k for k in once if isinstance(k, Kernel)]
    ahead = [k.what for k in made if k.phase == FORWARD and k.where in ("layer", "attention", "MLP")]
    assert [k.what for k in made if k.phase == AGAIN] == ahead[:-1]


def test_a_serving_engine_runs_its_own_kernels() -> None:
    """Of Llama: two norms, a rotary embedding, the cache and an activation a layer; the embedding and the last norm."""
    arch = load_model("llama-3.2-1b").architecture
    made = [k for k in operations(arch, PassSizes("decode", 1, context=64, engine=True)) if isinstance(k, Kernel)]
    assert sum(k.times * k.launches for k in made) == 5 * 16 + 2
