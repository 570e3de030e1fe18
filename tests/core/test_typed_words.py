"""What people type first: a model without a command, a word of their own for one, several cards in one, bare GB."""

from __future__ import annotations

import pytest

from estimator.cli import WORDS


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("llama-3-8b", "llama-3-8b is a model. First the command: llmcalc memory llama-3-8b"),
        ("finetune llama-3-8b", "unknown command 'finetune'. Try: llmcalc memory --method lora"),
        ("memory llama-3-8b --gpu 8xh100", "For 8 of them: --gpu h100-sxm --gpus 8"),
        ("memory llama-3-8b --gpu '2 x 3090'", "For 2 of them: --gpu rtx-3090 --gpus 2"),
        ("memory llama-3-8b --gpu-memory 24", "--gpu-memory 24 is 24 bytes; with its unit: --gpu-memory 24GB"),
        ("memory llama-3-8b --gpu-memory 100KB", "--gpu-memory 100KB is 100,000 bytes, less than any memory has"),
        ("gpus --min-memory 24", "--min-memory 24 is 24 bytes; with its unit: --min-memory 24GB"),
        ("memory qwen3-8b -q q4_k_m --ram 64", "--ram 64 is 64 bytes; with its unit: --ram 64GB"),
    ],
)
def test_is_told_what_to_type(llmcalc, line, says):
    ran = llmcalc(line)
    assert ran.code == 2
    assert says in ran.err


def test_memory_in_parts_of_a_unit(llmcalc):
    """22.06 GiB is no whole number of bytes."""
    ran = llmcalc("memory llama-3-8b --gpu-memory 22.06GiB --format json")
    assert ran.results["have_bytes"] == (2206 * 2**30 // 100)
    assert llmcalc("memory llama-3-8b --engine vllm --gpu l4 --pool-bytes 0.0001kB").err.endswith(
        "--pool-bytes must be > 0, got 0.0001kB\n"
    )


@pytest.mark.parametrize("typed", sorted(set(WORDS.values())))
def test_what_is_suggested_is_a_command(llmcalc, typed):
    assert llmcalc(f"{typed} --help").code == 0


def test_a_rate_takes_as_many_cards_as_it_needs(llmcalc):
    """Eight cards keep up with 3.3 requests a second: for ten, 32 are looked at; what is asked for is kept to."""
    options = "plan serve --model llama-3.1-70b --gpu h100-sxm --rate 10 --format json"
    free, kept = llmcalc(options).json, llmcalc(f"{options} --gpus 1..8").json
    assert {row["gpus"] for row in free["rows"]} == {32}
    assert "--gpus not given: 32, since 1..8 do not keep up" in free["assumptions"]
    assert "rows" not in kept
    assert kept["verdict"].startswith("Nothing keeps up: the most is 3.3 requests a second")


@pytest.mark.parametrize("recipe", ["litgpt", "torchtune", "unsloth"])
def test_libraries_with_models_of_their_own_have_decoders(llmcalc, recipe):
    ran = llmcalc(f"memory --mode training -m bart-base --recipe {recipe}")
    assert ran.code == 2
    assert f"--recipe {recipe} runs decoders, and bart-base is an encoder-decoder" in ran.err
    assert f"{recipe} is left out" in " ".join(llmcalc("memory --mode training -m bart-base --recipe all").out.split())


def test_a_library_is_not_given_an_attention_that_it_has_not(llmcalc):
    ran = llmcalc("memory --mode training -m gpt-oss-20b --recipe litgpt")
    assert (ran.code, "its attention is not gpt_oss's" in ran.err) == (2, True)


def test_a_dropout_of_an_adapter_folder_is_a_number(llmcalc, tmp_path):
    text = '{"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Meta-Llama-3-8B", "r": 8, '
    (tmp_path / "adapter_config.json").write_text(text + '"target_modules": ["q_proj"], "lora_dropout": [1]}')
    ran = llmcalc(f"memory --adapter {tmp_path}")
    assert (ran.code, "lora_dropout must be a number, got [1]" in ran.err) == (2, True)
