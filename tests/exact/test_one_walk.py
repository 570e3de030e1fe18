"""The simulated step's log of products beside the walk that step times still take: the same list, over every preset.

Until times too are folds over the step, the two must agree; what they say of kernels is test_kernels' business.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from estimator import presets
from estimator.config import Config
from estimator.errors import InputError
from estimator.models import Model, load_model
from estimator.peft.asked import prepare
from estimator.work.adapters import trainable
from estimator.work.model import operations
from estimator.work.product import Product
from estimator.work.run import products
from estimator.work.trainable import FULL, NONE, Trainable
from estimator.work.workload import PassSizes

DATA = Path(__file__).parents[1] / "data"
PASSES = (
    PassSizes("forward", 2, 512, fused=True),
    PassSizes("forward", 2, 512, last=True),
    PassSizes("training", 2, 512, fused=True),
    PassSizes("training", 2, 512, fused=True, checkpointing=True),
    PassSizes("decode", 2, context=512, fused=True),
)
ADAPTERS = (("lora", None), ("lora", "all-linear"), ("vera", None), ("soft-prompt", None))


def counted(made: Iterable[Any]) -> Counter[tuple[Any, ...]]:
    """How often each product runs, with its gradients; names inside attentions and scans are free."""
    out: Counter[tuple[Any, ...]] = Counter()
    for q in made:
        if isinstance(q, Product):
            key = (q.part, q.m, q.k, q.n, q.count, q.operator, q.left, q.right, q.again, q.recomputed, q.overcount)
            out[*key, q.pairs, q.weight, q.layer] += q.times
    return +out


def same(model: Model, work: PassSizes, train: Trainable = NONE, adapter: Any = None) -> None:
    walked = [q for q in operations(model.architecture, work, train) if isinstance(q, Product) and q.times * q.count]
    assert counted(products(model.architecture, work, adapter)) == counted(walked)


@pytest.mark.parametrize("name", presets.ids("models"))
def test_products_are_the_same(name: str) -> None:
    model = load_model(name)
    for work in PASSES:
        if work.mode == "decode" and model.architecture.kind == "encoder":
            continue
        same(model, work, FULL if work.mode == "training" else NONE)


def families() -> list[str]:
    found: dict[str, str] = {}
    for name in presets.ids("models"):
        found.setdefault(load_model(name).architecture.model_type, name)
    return list(found.values())


@pytest.mark.parametrize("name", families())
def test_products_with_adapters_are_the_same(name: str) -> None:
    model = load_model(name)
    for method, targets in ADAPTERS:
        try:
            adapter = prepare(model, method, None, targets, {}, None)
        except InputError:  # peft knows no targets in this family
            continue
        if method == "soft-prompt" and model.architecture.kind != "decoder":
            continue  # the walk lets the gradient pass through ALBERT's projection, behind which the prompt stands
        same(model, PassSizes("training", 2, 64, fused=True), trainable(model, adapter)[0], adapter)


def test_a_prefix_has_no_gradient_in_a_forward_pass() -> None:
    model = load_model("llama-3.2-1b")
    adapter = prepare(model, "prefix_tuning", None, None, {}, None)
    found = products(model.architecture, PassSizes("forward", 1, 64, fused=True), adapter)
    assert sum(q.backward() for q in found) == 0


def test_nothing_below_the_first_adapter_is_differentiated() -> None:
    """Jamba's LoRA sits in its attentions, the lowest of which is layer 4."""
    model = load_model("jamba-v0.1")
    adapter = prepare(model, "lora", 8, "q_proj,v_proj", {}, None)
    found = products(model.architecture, PassSizes("training", 1, 24), adapter)
    assert sum(q.times for q in found if q.name.endswith("mamba.in_proj") and not q.left) == 4


@pytest.mark.parametrize("file", ["family_variants_dense.json", "family_variants_other.json"])
def test_variants_of_the_families_are_the_same(file: str) -> None:
    """Classes with other heads, odd widths, sizes below a table's: whatever the families' own tests build."""
    met = 0
    for config in configs(json.loads((DATA / file).read_text())):
        try:
            arch = Model("variant", "file", Config(dict(config))).architecture
        except InputError:
            continue
        if any(layer.cross for layer in arch.layers) and arch.kind == "decoder":
            continue  # a decoder by itself is given nothing to look across at
        for work in (PassSizes("forward", 2, 33, fused=True), PassSizes("forward", 1, 1, last=True)):
            want = sum(q.total() for q in operations(arch, work) if isinstance(q, Product))
            assert sum(q.total() for q in products(arch, work)) == want, config
        met += 1
    assert met > 20


def configs(tree: Any) -> Iterator[dict[str, Any]]:
    """Every config.json in a file of recorded cases."""
    if isinstance(tree, dict) and isinstance(tree.get("model_type"), str):
        yield tree
    elif isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from configs(part)
