"""Answers that were wrong when people asked: one line each, with the right value and where it is from."""

from __future__ import annotations


def test_an_encoder_has_no_cache_and_no_decode(llmcalc):
    """BERT, 64 x 512 in bf16: 1.21 GB of keys and values were counted."""
    ran = llmcalc("memory bert-base-uncased-encoder --batch-size 64 --seq-len 512 --dtype bf16 --format json")
    assert ran.results["peak.allocated_bytes"] <= 920_000_000
    assert ran.results["kv_cache_bytes"] == 0
    assert "moments.decode_bytes" not in ran.results
    assert not any("are generated" in line for line in ran.json["assumptions"])
    assert llmcalc("memory bert-base-uncased-encoder --kv-dtype fp8").code == 2
    assert "--new-tokens 3 is not used by an encoder" in llmcalc("memory bert-base-uncased-encoder --new-tokens 3").out


def test_a_context_beyond_the_model_is_said(llmcalc):
    assert "8,192 positions" in llmcalc("kvcache --model llama-3-8b --gpu h100-sxm").out


def test_the_longest_context_of_an_encoder_decoder_fits_and_one_more_does_not(llmcalc):
    line = "kvcache --model flan-t5-xl --gpu h100-sxm --workspace none --format json --seq-len"
    found = llmcalc(f"{line} 128").results
    assert found["max_tokens"] <= 205_000
    most = found["max_tokens"]
    assert llmcalc(f"{line} {most}").results["kv_cache_bytes"] <= found["free_bytes"]
    assert llmcalc(f"{line} {most + 1}").results["kv_cache_bytes"] > found["free_bytes"]


def test_attention_is_timed_as_asked(llmcalc):
    """MosaicML publishes 3,684 tokens/s a GPU for MPT-7B with its own fused kernel; transformers has eager only."""
    line = (
        "train --model mpt-7b --stage 3 --gpus 8 --steps 10 --recipe torch-mixed --gpu a100-80gb --batch-size 16 "
        "--seq-len 4096 --accumulation 2 --checkpointing full --format json"
    )
    assert llmcalc(f"{line} --attention sdpa").results["tokens_per_second"] >= 24_000
    found, eager = (llmcalc(f"{line}{more}").results["tokens_per_second"] for more in ("", " --attention eager"))
    assert found == eager


def test_a_machine_without_a_matrix_peak_has_a_bandwidth(llmcalc):
    ran = llmcalc("infer --model llama-3-8b --gpu m5-max --format json")
    assert ran.code == 0
    assert any("no matrix peak" in line for line in ran.json["assumptions"])


def test_a_card_of_your_own(llmcalc, tmp_path):
    assert llmcalc("memory --model llama-3-8b --gpu 24GB --format json").results["have_bytes"] == 24_000_000_000
    own = llmcalc("memory --model llama-3-8b --gpu rtx-4090 --gpu-memory 20GiB --format json").results
    assert own["have_bytes"] == 20 * 2**30
    card = tmp_path / "mine.toml"
    card.write_text("name = 1\n")
    ran = llmcalc(f"memory --gpu {card}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_steps_are_rounded_up(llmcalc):
    """transformers' Trainer: ceil(epochs x steps an epoch)."""
    for examples, epochs, steps in ((3, 0.3, 1), (100, 0.29, 29), (100, 1, 100)):
        ran = llmcalc(f"train gpt2 --examples {examples} --epochs {epochs} --format json")
        assert ran.results["steps"] == steps


def test_no_recipe_fits_is_exit_3(llmcalc):
    assert llmcalc("memory --recipe all --mode training --gpu t4 --check-fit --model llama-3-70b").code == 3


def test_zero_says_what_memory_says(llmcalc):
    """Three fp32 copies of the logits stand at 2 x 8,192: 41.6 GiB on each of 8 A100 40 GB, not 30.0."""
    line = "--model llama-3.1-8b --gpus 8 --recipe torch-mixed --stage 3 --batch-size 2 --seq-len 8192"
    ran = llmcalc(f"zero {line} --checkpointing full --gpu a100-40gb --check-fit")
    assert (ran.code, ran.out.splitlines()[1].startswith("Does not fit")) == (3, True)


def test_copies_of_modules_keep_the_models_width(llmcalc):
    """peft 0.21.2, cast_adapter_dtype: only tuner layers are converted; modules_to_save stay in the base's bf16."""
    save = "--arg 'modules_to_save=[\"embed_tokens\",\"lm_head\"]'"
    got = llmcalc(f"peft --model llama-3-8b --method lora --rank 16 --targets all-linear {save} --format json").results
    assert got["added_bytes"] == 2_269_118_464
    assert got["optimizer_bytes"] == 4_538_236_928


def test_an_unknown_task_is_refused(llmcalc):
    ran = llmcalc("peft --model roberta-base --method lora --arg task_type=SEQ_CLSS")
    assert (ran.code, "Did you mean" in ran.err) == (2, True)


def test_counts_that_are_absurd_end_soon(llmcalc):
    """What is alike is counted, not looped over: ranks beyond the tensors hold none; a tree has a bounded mask."""
    assert llmcalc("memory --model pythia-14m --mode training --gpus 1e9 --stage 1").code == 0
    assert llmcalc("zero --model pythia-14m --gpus 1e9 --recipe torch-mixed --stage 1").code == 0
    nine = " ".join(map(str, range(9)))
    assert llmcalc(f"decode tree --heads '{nine};{nine};{nine};{nine}'").code == 2
    assert llmcalc("validate /dev/zero").code == 2
