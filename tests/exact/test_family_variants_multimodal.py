"""Towers, and the models that wrap them, against transformers' own, switch by switch.

The fixture is written by tests/data/make_family_variants_multimodal.py (transformers 5.24 on the meta device).
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build
from estimator.work.run import products
from estimator.work.workload import PassSizes
from tests.exact.inventories import tensors

TOKENS = 24  # of the passes behind the recorded FLOPs
DATA = Path(__file__).parents[1] / "data" / "family_variants_multimodal.json.gz"
CASES = json.loads(gzip.decompress(DATA.read_bytes()))
IDS = [f"{c['config']['architectures'][0]}-{n}" for n, c in enumerate(CASES)]


@pytest.mark.parametrize("traced", [False, True], ids=["int", "traced"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_tensors_are_transformers(case: dict[str, Any], traced: bool) -> None:
    made = build(Config(case["config"], traced=traced))
    assert tensors(made) == Counter({(name, tuple(shape)): n for name, shape, n in case["tensors"]})


def test_gemma_3n_is_timms() -> None:
    """Counted once with transformers 5.24 and timm 1.0.31, whose MobileNetV5 the fixture's script does without."""
    made = build(Config({"model_type": "gemma3n"}))
    assert sum(int(w.total) for w in made.weights()) == 7818517072
    assert sum(int(w.total) for t in made.towers for w in t.weights() if w.name.startswith("model.vision")) == 294126912


@pytest.mark.parametrize(
    "case", [c for c in CASES if "flops" in c], ids=[i for i, c in zip(IDS, CASES, strict=True) if "flops" in c]
)
def test_flops_are_torchs(case: dict[str, Any]) -> None:
    made = build(Config(case["config"]))
    work = PassSizes("forward", 1, TOKENS, fused=False)
    assert sum(q.forward() for q in products(made, work)) == case["flops"]


BAD = {
    "text_config must be a mapping": {"model_type": "llava", "text_config": 3},
    "vision_config: unknown model_type": {"model_type": "llava", "vision_config": {"model_type": "swin"}},
    "image_size must be a size or two": {"model_type": "siglip_vision_model", "image_size": [1, 2, 3]},
    "hidden_size=100 is not a multiple": {"model_type": "vit", "hidden_size": 100},
    "norm_type must be": {"model_type": "internvl", "vision_config": {"norm_type": "batch"}},
    "downsample_ratio must be": {"model_type": "internvl", "downsample_ratio": 0},
    "moe_intermediate_size must be two": {
        "model_type": "ernie4_5_vl_moe", "text_config": {"moe_intermediate_size": [1]},
    },
}  # fmt: skip


@pytest.mark.parametrize(("message", "config"), BAD.items(), ids=list(BAD))
def test_bad_configs_are_one_line(message: str, config: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        build(Config(config))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
