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


def test_one_class_is_parsed_for_one_class(monkeypatch):
    kinds, read = recorded.known(), []
    loads = json.loads
    monkeypatch.setattr(recorded.json, "loads", lambda text: read.append(len(text)) or loads(text))
    assert recorded.record_of("blip")["type"] == "blip"
    assert len(read) == 1
    assert read[0] < 20_000
    assert all(recorded.record_of(kind)["type"] == kind for kind in kinds)
    assert not set(kinds) & set(recorded._file()[0]["left_out"])


def test_why_a_class_is_left_out_is_said(tmp_path):
    every = recorded._file()[0]["left_out"]
    raw = ("Error:", "Traceback", "{'", "[", "torch.", "...")
    assert not [why for why in every.values() if any(x in why for x in raw) or len(why) > 160 or not why]
    kind = next(k for k in every if k not in FAMILIES)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(InputError, match=r"is not counted: .*\. --with-transformers counts it") as caught:
        memory(str(tmp_path))
    assert every[kind] in str(caught.value)


# published configs, and what transformers 5.24 builds from them on the meta device
PUBLISHED = [
    ({"model_type": "longformer", "architectures": ["LongformerForMaskedLM"], "attention_window": [512] * 12,
      "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
      "max_position_embeddings": 4098, "vocab_size": 50265, "type_vocab_size": 1}, 148_711_257),
    ({"model_type": "led", "architectures": ["LEDForConditionalGeneration"], "attention_window": [1024] * 6,
      "d_model": 768, "decoder_attention_heads": 12, "decoder_ffn_dim": 3072, "decoder_layers": 6,
      "encoder_attention_heads": 12, "encoder_ffn_dim": 3072, "encoder_layers": 6, "vocab_size": 50265,
      "max_decoder_position_embeddings": 1024, "max_encoder_position_embeddings": 16384}, 161_844_480),
    ({"model_type": "gpt-sw3", "architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_head": 12, "n_layer": 12,
      "n_positions": 2048, "vocab_size": 64000}, 135_780_864),
    ({"model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"], "num_query_tokens": 32,
      "text_config": {"model_type": "opt", "hidden_size": 2560, "ffn_dim": 10240, "num_hidden_layers": 32,
                      "num_attention_heads": 32, "word_embed_proj_dim": 2560, "vocab_size": 50304,
                      "max_position_embeddings": 2048},
      "qformer_config": {"model_type": "blip_2_qformer"}, "vision_config": {"model_type": "blip_2_vision_model"}},
     3_744_761_856),
]  # fmt: skip


@pytest.mark.parametrize(("config", "total"), PUBLISHED, ids=[c["model_type"] for c, _ in PUBLISHED])
def test_published_configs(config, total):
    assert sum(w.total for w in build(Config(config)).weights()) == total


def test_a_part_of_another_class_is_refused():
    """InstructBLIP's Vicuna (7.9 B) was counted as its class's own OPT (4.3 B)."""
    for kind in ("blip-2", "video_llava"):
        part = recorded.record_of(kind)["parts"]["text_config"]
        assert part in ("opt", "llama")
        with pytest.raises(InputError, match=rf"text_config is a qwen2, in the recorded .* a {part}; --with"):
            build(Config({"model_type": kind, "text_config": {"model_type": "qwen2"}}))


def test_a_part_of_the_classs_own_may_be_called_as_the_whole():
    """Published Idefics2 configs call their vision part idefics2: the class has one, whatever it is called."""
    config = {"model_type": "idefics2", "vision_config": {"model_type": "idefics2"}}
    plain = sum(w.total for w in build(Config({"model_type": "idefics2"})).weights())
    assert sum(w.total for w in build(Config(config)).weights()) == plain


def test_no_number_of_a_token_is_taken_for_a_size():
    for kind in recorded.known():
        record = recorded.record_of(kind)
        text = json.dumps([record["tensors"], record["flags"]])
        assert not any(f'{n}_token_id"' in text for n in ("bos", "eos", "pad", "image")), kind


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
