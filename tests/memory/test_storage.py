"""Weights in every storage format, and adapters of every method, in the moments of a step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimator import api
from estimator.commands.models import report as catalog
from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build
from estimator.peft import METHODS, find

LITTLE = "llama-3.2-1b"
NO_PLACE = {"bitfit"}  # Llama has no biases


@pytest.mark.parametrize("scheme", ["int8", "int4", "gptq", "awq", "fp8", "mxfp4", "nvfp4", "q4_k_m", "nf4"])
def test_the_moments_hold_the_weights_as_they_are_stored(scheme: str) -> None:
    found = api.memory(
        api.load_model(LITTLE), mode="inference", quantization=scheme, seq_len=64, engine="transformers"
    ).results()
    plain = api.memory(api.load_model(LITTLE), mode="inference", seq_len=64).results()
    weights, load = found["weights_bytes"], found["moments.load_bytes"]
    assert weights <= load <= weights + 70 * 2**20  # the workspaces, and what the allocator rounds up
    assert found["peak.allocated_bytes"] < plain["peak.allocated_bytes"]


@pytest.mark.parametrize(("dtype", "width"), [("bf16", 2), ("fp32", 4)])
def test_the_cache_has_the_width_of_the_weights(dtype: str, width: int) -> None:
    found = api.memory(api.load_model("gpt2"), mode="inference", dtype=dtype, seq_len=56, new_tokens=8).results()
    assert found["kv_cache_bytes"] == 2 * 12 * 64 * 768 * width


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_step_with_any_adapter_is_estimated_and_says_where_it_is_approximate(method: str) -> None:
    model = api.load_model(LITTLE)
    if method in NO_PLACE:
        with pytest.raises(InputError, match="nothing trains"):
            api.memory(model, mode="training", method=method, seq_len=64)
        return
    report = api.memory(model, mode="training", method=method, seq_len=64)
    found = report.results()
    of = find(method)
    assert found["peak.allocated_bytes"] > found["moments.load_bytes"]
    assert any("approximate" in a for a in report.assumptions) != (of.simulated or of.forward is not None)


def test_options_that_a_mode_does_not_use_are_named() -> None:
    model = api.load_model("gpt2")
    served = api.memory(model, mode="inference", optimizer="adamw", checkpointing="full", seq_len=64)
    assert "--optimizer adamw is not used by --mode inference" in served.assumptions
    assert "--checkpointing full is not used by --mode inference" in served.assumptions
    trained = api.memory(model, mode="training", kv_dtype="fp8", seq_len=64)
    assert "--kv-dtype fp8 is not used by --mode training" in trained.assumptions


@pytest.mark.parametrize("options", [{}, {"mode": "training"}, {"recipe": "all"}, {"recipe": "deepspeed"}])
def test_a_simulated_step_has_no_answer_in_letters(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="in letters"):
        api.memory(api.load_model("symbolic"), **options)


def test_published_accountings_answer_in_letters() -> None:
    report = api.memory(api.load_model("symbolic"), recipe="zero-paper", seq_len=2048)
    node = next(n for n in report.nodes() if n.key == "weights_bytes")
    assert str(node.value.expr) == "24*L*d**2"


def _little(tmp_path: Path, dtype: str, config: bool = True) -> str:
    width = {"F32": 4, "BF16": 2}[dtype]
    sizes = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 100, "num_hidden_layers": 2}
    raw = sizes | {"model_type": "llama", "num_attention_heads": 4}
    tensors, offset = {}, 0
    for w in build(Config(raw)).weights():
        for i in range(int(w.times)):
            size = width * int(w.elements)
            entry = {"dtype": dtype, "shape": [int(x) for x in w.shape], "data_offsets": [offset, offset + size]}
            tensors[w.name.replace("{i}", str(i))] = entry
            offset += size
    header = json.dumps(tensors).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(offset))
    if config:
        (tmp_path / "config.json").write_text(json.dumps(raw))
    return str(file)


@pytest.mark.parametrize(("dtype", "width"), [("F32", 4), ("BF16", 2)])
def test_a_file_of_weights_gives_their_width(tmp_path: Path, dtype: str, width: int) -> None:
    found = api.memory(api.load_model(_little(tmp_path, dtype)), mode="inference", seq_len=16).results()
    assert found["weights_bytes"] == width * found["params.total"]


def test_a_file_without_a_config_is_counted(tmp_path: Path) -> None:
    found = catalog.model(_little(tmp_path, "BF16", config=False)).results()
    assert found["stored_bytes"] == 2 * found["stored_elements"] > 0


def test_set_makes_another_model_than_the_file_holds(tmp_path: Path) -> None:
    model = api.load_model(_little(tmp_path, "F32"), ("num_hidden_layers=3",))
    found = api.memory(model, mode="inference", seq_len=16).results()
    assert model.header is None
    assert found["weights_bytes"] == 2 * found["params.total"]  # bf16, as for every config
