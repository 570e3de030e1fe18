"""Classes that no family describes: recorded inventories, held to transformers at other sizes; what is refused."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from estimator.api import flops, kvcache, memory, peft, zero
from estimator.config import Config
from estimator.errors import InputError
from estimator.families import FAMILIES, build, recorded

DATA = Path(__file__).parents[1] / "data" / "recorded_cases.json.gz"
CASES = json.loads(gzip.decompress(DATA.read_bytes()))
IDS = [f"{c['config']['architectures'][0]}-{n}" for n, c in enumerate(CASES)]
LEFT = [c for c in CASES if c["config"]["model_type"] not in FAMILIES]  # a family's word goes first


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_shapes_are_transformers(case: dict[str, Any]) -> None:
    made = recorded.build(Config(case["config"]))
    shapes: Counter[tuple[int, ...]] = Counter()
    for w in made.weights():
        shapes[w.shape] += w.times
    assert shapes == Counter({tuple(s): n for s, n in case["shapes"]})
    assert sum(w.total for w in made.weights()) == case["total"]
    assert made.counted_only


def test_what_is_known_and_what_is_refused(tmp_path: Path) -> None:
    config = LEFT[0]["config"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    report = memory(str(path))
    assert report.results()["params.total"] == LEFT[0]["total"]
    assert report.results()["weights_bytes"] == 2 * LEFT[0]["total"]
    assert "not known" in report.verdict
    assert peft(str(path), method="full").results()["trainable_params"] == LEFT[0]["total"]
    assert zero(str(path), gpus=8).results()["stage0.memory_bytes"] == 16 * LEFT[0]["total"]
    for command in (kvcache, flops):
        with pytest.raises(InputError, match=r"only the weights are known .* no caches, activations, FLOPs or times"):
            command(str(path))
    with pytest.raises(InputError, match="only the weights are known"):
        memory(str(path), mode="training")


def test_a_field_that_is_not_recorded_is_named() -> None:
    case = next(c for c in LEFT if recorded.record_of(c["config"]["model_type"])["fixed"])
    name, value = next(iter(recorded.record_of(case["config"]["model_type"])["fixed"].items()))
    if "." in name:
        return
    with pytest.raises(InputError, match=rf"{name}=.* is not in the recorded inventory .* --with-transformers"):
        build(Config({**case["config"], name: "another" if value != "another" else "one more"}))


def test_sizes_of_the_wrong_kind_are_named() -> None:
    case = LEFT[0]["config"]
    field = next(n for n in recorded.record_of(case["model_type"])["sizes"] if "." not in n)
    for bad in (-1, "many", 1.5, 10**20):
        with pytest.raises(InputError, match=f"{field} must be a whole number"):
            build(Config({**case, field: bad}))


def test_a_token_s_share_is_left_out_where_it_is_not_said(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "aria_text", "moe_topk": 6}))
    assert "params.active" in memory(str(path)).results()
    path.write_text(json.dumps({"model_type": "aria_text"}))
    assert "params.active" not in memory(str(path)).results()


def test_a_name_without_a_number_occurs_once():
    """A dense first layer more is no second table of tokens."""
    for kind in recorded.known():
        record = recorded.record_of(kind)
        rows = [*record["tensors"], *(r for f in record["flags"].values() for r in (*f["adds"], *f["drops"]))]
        assert all(times == 1 or times[0] in ("==", "!=") for name, _, times, _ in rows if "{i}" not in name), kind


def test_where_two_widths_are_equal():
    """facebook/w2v-bert-2.0 holds 580,493,120 numbers; its adapter projects where its output has another width."""
    config = {"model_type": "wav2vec2-bert", "architectures": ["Wav2Vec2BertModel"], "vocab_size": None}
    assert sum(w.total for w in build(Config(config)).weights()) == 580_493_120
    names = [
        {w.name for w in build(Config({**config, "add_adapter": True, "output_hidden_size": n})).weights()}
        for n in (1024, 768)
    ]  # fmt: skip
    assert names[1] - names[0] == {f"adapter.proj{x}.{y}" for x in ("", "_layer_norm") for y in ("weight", "bias")}


@pytest.mark.parametrize(
    ("expression", "value"),
    [(["at", "depths", 2], 18), (["below", "global", ["f", "layers"]], 3), (["*", ["f", "layers"], ["!=", 1, 2]], 12),
     (["==", ["f", "layers"], 12], 1), (["ceil", ["/", ["f", "layers"], 5]], 3)],
)  # fmt: skip
def test_expressions(expression, value):
    fields = {"depths": [2, 2, 18, 2], "global": [2, 5, 8, 23], "layers": 12}
    assert recorded.evaluate(expression, fields) == value
