"""What people type first: a model without a command, a word of their own for one, several cards in one, bare GB."""

from __future__ import annotations

import pytest

from estimator.cli import WORDS


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("llama-3-8b", "llama-3-8b is a model. First the command: llmcalc memory llama-3-8b"),
        ("finetune llama-3-8b", "unknown command 'finetune'. Try: llmcalc memory --method lora"),
        ("params llama-3-8b", "Try: llmcalc models llama-3-8b"),
        ("params --model llama-3-8b --derive", "Try: llmcalc models llama-3-8b --derive"),
        ("model -m=llama-3-8b", "Try: llmcalc models llama-3-8b"),
        ("memory qwen3.5-35b", "Did you mean 'qwen3.5-35b-a3b'?"),
        ("memory gemma-4-26b-it", "Did you mean 'gemma-4-26b-a4b'?"),
        ("memory deepseek", "6 presets begin so: llmcalc models deepseek"),
        ("""vllm serve qwen3-8b --limit-mm-per-prompt '{"image": 2}'""", """--limit-mm-per-prompt '{"image": 2}'"""),
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


@pytest.mark.parametrize("name", ["deepseek", "qwen3-vl"])
def test_as_many_presets_begin_so_as_are_listed(llmcalc, name):
    told = llmcalc(f"memory {name}").err.partition(". ")[2].split()[0]
    assert f"{told} model presets\n" in llmcalc(f"models {name}").out


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


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mfu", "model FLOPs utilisation"),
        ("GQA", "grouped-query attention"),
        ("awq", "AWQ, 4 bits in groups of 128 inputs"),
        ("nf4-dq", "nf4 with double quantisation"),
        ("zero-3", "--stage 3 --gpus N"),
        ("ZeRO3", "--stage 3 --gpus N"),
        ("tpot", "inter-token latency"),
    ],
)
def test_words_of_papers_are_explained(llmcalc, word, said):
    page = " ".join(llmcalc(f"explain {word}").out.split())
    assert said in page
    assert "source: " in page


def test_every_word_names_a_source_and_what_it_names_exists(llmcalc):
    from estimator.commands.explain.words import SAME
    from estimator.commands.explain.words import WORDS as PAPERS

    assert all(w.source and w.title and w.meaning for w in PAPERS.values())
    assert set(SAME.values()) <= set(PAPERS)
    for name in ("kv_cache_bytes", "mla_cache_bytes"):
        assert llmcalc(f"explain {name}").code == 0


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("m3", "m3 has 16.00 GiB of its 24 GB"),
        ("m3-16gb", "m3-16gb has 10.67 GiB of its 16 GB"),
        ("24GB", "24GB has 22.35 GiB"),
    ],
)
def test_the_verdict_names_a_macs_memory(llmcalc, card, said):
    words = llmcalc(f"memory llama-3-8b --gpu {card} --format json").json["verdict"]
    assert said in words
    assert ("of its" in words) == ("of its" in said)


def test_a_card_is_not_named_twice(llmcalc):
    assert llmcalc("gpus m3").out.startswith("m3: Apple M3,")
    assert llmcalc("gpus h100").out.startswith("h100-sxm: NVIDIA H100")


def test_qloras_note_says_the_storage_that_it_takes(llmcalc):
    ran = llmcalc("train llama-3-8b --gpu rtx-4090 --method qlora")
    assert "double quantisation, 4.127 bits a weight, unless --quantization says otherwise" in " ".join(ran.err.split())
    assert "4.5 bits" not in ran.err + ran.out


def test_what_changes_nothing_in_training_is_said(llmcalc):
    got = llmcalc("memory llama-3-8b --mode training --dtype fp8 --kv-dtype fp8 --format json").json["assumptions"]
    assert "--dtype fp8 changes nothing in training: weights of 2 bytes are trained" in got
    assert "--kv-dtype fp8 is not used by --mode training" in got
    assert "changes nothing" not in str(llmcalc("memory llama-3-8b --mode training --dtype bf16 --format json").json)
