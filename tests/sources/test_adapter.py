"""An adapter's own file: what peft saved gives the counts that its options give."""

from __future__ import annotations

import json
import re

import pytest

from estimator import api
from estimator.errors import InputError

# as peft 0.21 writes them; the fields that are null there are left out of two of them
LORA = {
    "peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama-3.1-8B", "r": 16, "lora_alpha": 32,
    "lora_dropout": 0.0, "bias": "none", "target_modules": ["v_proj", "q_proj"], "modules_to_save": ["lm_head"],
    "rank_pattern": {"q_proj": 4}, "alpha_pattern": {}, "use_dora": False, "use_rslora": False, "auto_mapping": None,
    "inference_mode": True, "init_lora_weights": True, "loftq_config": {}, "megatron_core": "megatron.core",
    "task_type": "CAUSAL_LM", "layers_to_transform": None, "peft_version": "0.21.0", "revision": None,
    "fan_in_fan_out": False, "qalora_group_size": 16, "use_qalora": False, "target_parameters": None,
}  # fmt: skip


def put(folder, content):
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return str(folder)


def test_an_adapter_is_read_with_its_base_model(tmp_path):
    place = put(tmp_path, LORA)
    found = api.peft(None, adapter=place).results()
    same = api.peft("llama-3.1-8b", method="lora", rank=16, targets="q_proj,v_proj",
                    args={"rank_pattern": {"q_proj": 4}, "modules_to_save": ["lm_head"]}).results()  # fmt: skip
    assert found["trainable_params"] == same["trainable_params"] == 32 * (4 * 8192 + 16 * 5120) + 4096 * 128256
    small = api.memory("llama-3.2-1b", mode="training", adapter=place + "/adapter_config.json", seq_len=64)
    assert small.results()["params.trainable"] < small.results()["params.total"]


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (LORA | {"use_dora": True, "modules_to_save": None, "rank_pattern": {}}, {
            "method": "dora", "rank": 16, "targets": "q_proj,v_proj"}),
        ({"peft_type": "IA3", "target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, {
            "method": "ia3", "targets": "k_proj,down_proj", "args": {"feedforward_modules": ["down_proj"]}}),
        ({"peft_type": "VERA", "r": 64, "target_modules": ["q_proj"]}, {
            "method": "vera", "rank": 64, "targets": "q_proj"}),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 20, "task_type": "CAUSAL_LM"}, {
            "method": "prompt_tuning", "args": {"num_virtual_tokens": 20}}),
        ({"peft_type": "LORA", "r": 8, "target_modules": "all-linear"}, {
            "method": "lora", "rank": 8, "targets": "all-linear"}),
    ],
)  # fmt: skip
def test_methods(tmp_path, config, options):
    found = api.peft("llama-3.2-1b", adapter=put(tmp_path, config)).results()
    assert found["trainable_params"] == api.peft("llama-3.2-1b", **options).results()["trainable_params"]


def test_what_is_given_beside_it_counts(tmp_path):
    place = put(tmp_path, LORA | {"modules_to_save": None, "rank_pattern": {}})
    found = api.peft("llama-3.2-1b", adapter=place, rank=4).results()
    assert found["rank"] == 4


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ({}, {}, "has no peft_type"),
        (LORA | {"peft_type": "NOPE"}, {}, "NOPE|nope"),
        (LORA, {"method": "ia3"}, "is lora, --method says ia3"),
        (LORA | {"r": "many"}, {}, "r"),
    ],
)
def test_what_is_no_adapter(tmp_path, content, options, says):
    with pytest.raises(InputError, match=says):
        api.peft("llama-3.2-1b", adapter=put(tmp_path, content), **options)


def test_a_folder_without_one(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        api.peft("llama-3.2-1b", adapter=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": "x"}, "adapter_config.json: r must be a whole number >= 1, got 'x'"),
        ({"peft_type": "NEWTUNER"}, "adapter_config.json: peft_type 'NEWTUNER' is no known method"),
        ({"base_model_name_or_path": "nobody/x-7b"}, "base_model_name_or_path: unknown model 'nobody/x-7b'"),
        ({"base_model_name_or_path": "nobody/x-7b"}, "or name the base beside it with --model"),
    ],
)
def test_errors_name_the_file_and_the_field(tmp_path, changes, said):
    with pytest.raises(InputError, match=re.escape(said)):
        api.peft(None, adapter=put(tmp_path, LORA | changes))


def test_an_adapter_is_no_model(tmp_path):
    with pytest.raises(InputError, match="It holds an adapter: --adapter"):
        api.memory(put(tmp_path, LORA), mode="inference")


def test_fields_of_other_versions_are_passed_over_as_peft_does(tmp_path):
    place = put(tmp_path, LORA | {"some_new_field": 3, "swift_version": "3.1"})
    report = api.peft("llama-3.1-8b", adapter=place)
    plain = api.peft("llama-3.1-8b", adapter=put(tmp_path, LORA))
    assert report.results()["trainable_params"] == plain.results()["trainable_params"]
    assert any("some_new_field, swift_version: not a field of peft's LORA, which ignores it" in n for n in report.notes)


def test_oft_with_the_rank_that_peft_writes_beside_a_block_size(tmp_path):
    oft = {"peft_type": "OFT", "task_type": "CAUSAL_LM", "target_modules": ["q_proj"], "r": 0, "oft_block_size": 32}
    found = api.peft("llama-3.1-8b", adapter=put(tmp_path, oft)).results()
    assert found["trainable_params"] == 32 * (4096 // 32) * (32 * 31 // 2)
