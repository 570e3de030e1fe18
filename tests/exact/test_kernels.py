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
from estimator.stack.unfused import INSIDE
from estimator.work.run import operations
from estimator.work.workload import PassSizes

RECORD = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "kernels.json.gz").read_bytes()))
ABOUT, LAYERS = RECORD["about"], RECORD["layers"]
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers", "encoder_layers",
          "decoder_layers")  # fmt: skip
NESTED = ("text_config",)
# where the recording and our default differ by choice: Gemma 2 was recorded with SDPA, which leaves out the cap
CHOICES: dict[str, dict[str, Any]] = {"gemma-2-27b": {"uncapped": True}}
PHASES = (("prefill", "forward", FORWARD), ("forward", "training", FORWARD), ("backward", "training", BACKWARD))


def shortened(raw: dict[str, Any], layers: int) -> dict[str, Any]:
    raw = raw | {f: layers for f in DEPTHS if f in raw}
    if isinstance(raw.get("layer_types"), list):
        raw["layer_types"] = raw["layer_types"][:layers]
    if isinstance(raw.get("attention_types"), list):
        raw["attention_types"] = [[kinds, layers // len(kinds)] for kinds, _ in raw["attention_types"]]
        raw.pop("attention_layers", None)
    return raw | {f: shortened(raw[f], layers) for f in NESTED if isinstance(raw.get(f), dict)}


def of_depth(raw: dict[str, Any], layers: int) -> Model:
    return Model("shortened", "file", Config(shortened(raw, layers)))


def counted(model: Model, mode: str, phase: str, **more: Any) -> list[Any]:
    """Kernels, bytes, strided and LayerNorm's elements of one phase of a pass."""
    work = PassSizes(mode, ABOUT["batch"], ABOUT["tokens"], **more)
    made = [k for k in operations(model.architecture, work) if isinstance(k, Kernel) and k.phase == phase]
    made = [k for k in made if k.what != INSIDE]  # one operation to the dispatcher; seen on the device (Falcon 7B)
    return [sum(k.times * getattr(k, f) for k in made) for f in ("launches", "moved", "strided", "welford")]


def layers(name: str, mode: str, phase: str) -> list[Any]:
    """The same of as many layers as were recorded."""
    config = load_model(name).config
    assert config is not None
    n, more = ABOUT["layers"], CHOICES.get(name, {}) | {"caches": mode == "forward"}
    one, two = (counted(of_depth(dict(config.raw), k), mode, phase, **more) for k in (n, 2 * n))
    return [b - a for a, b in zip(one, two, strict=True)]


@pytest.mark.parametrize(("key", "mode", "phase"), PHASES)
@pytest.mark.parametrize("name", LAYERS)
def test_every_count_is_equal(name: str, key: str, mode: str, phase: str) -> None:
    assert layers(name, mode, phase) == LAYERS[name][key]


def test_checkpointing_runs_a_layer_again_but_for_its_end() -> None:
    """All but what follows the last tensor that is kept: the addition to the residual stream."""
    model = of_depth(dict(load_model("llama-3.2-1b").config.raw), 1)  # type: ignore[union-attr]
    once = operations(model.architecture, PassSizes("training", 2, 128, checkpointing=True))
    made = [k for k in once if isinstance(k, Kernel)]
    ahead = [k.what for k in made if k.phase == FORWARD and k.where in ("layer", "attention", "MLP")]
    assert [k.what for k in made if k.phase == AGAIN] == ahead[:-1]


def test_a_serving_engine_runs_its_own_kernels() -> None:
    """Of Llama: two norms, a rotary embedding, the cache and an activation a layer; the embedding and the last norm."""
    arch = load_model("llama-3.2-1b").architecture
    made = [k for k in operations(arch, PassSizes("decode", 1, context=64, engine=True)) if isinstance(k, Kernel)]
    assert sum(k.times * k.launches for k in made) == 5 * 16 + 2
