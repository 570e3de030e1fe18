"""Advice is what its command prints; the answer comes first and within a screen."""

from __future__ import annotations

import itertools

import pytest

RUNS = [
    "--mode training --model llama-3-8b --gpu rtx-4090",
    "--mode training --model llama-3-8b --gpu h100-sxm --recipe zero-paper",
    "--mode training --model bloom-3b --gpu v100-16gb --recipe torch-mixed",
    "--mode training --model llama-3-70b --gpu h100-sxm --batch-size 2",
    "--mode training --model llama-3-8b --method lora --targets all-linear --gpu rtx-3060-12gb",
    "--mode training --model mixtral-8x7b --gpus 8 --stage 1 --gpu a100-80gb",
    "--model llama-3-70b --gpu h100-sxm",
    "--model gpt2-xl --gpu t4 --dtype fp32 --batch-size 64 --seq-len 512",
    "--model llama-3-8b --gpu 12GB",
    "--model qwen2.5-7b --gpu rtx-3060-12gb",
    "--model llama-3.1-70b --gpu rtx-4090",
    "--model llama-3.1-8b --seq-len 128k --gpu rtx-4060",
    "--model llama-3.1-70b --mode training --method qlora --gpu rtx-4090 --gpus 2",
    "--model mixtral-8x7b --mode training --gpu rtx-4090 --gpus 8",
    "--model gpt2-xl --mode training --gpu 4GB",
    "--model llama-3-8b --mode training --method lora --gpu rtx-3060-12gb",
    "--model phi-4 --gpu rtx-3060-12gb",  # llama.cpp among them
    "--model gpt-oss-20b --gpu 16GB",  # in llama.cpp as its checkpoint is
    "--model gpt-oss-120b --gpu rtx-5090",
    "--model llama-3-8b --method qlora --gpu 20GB --allocator simulated",
]


@pytest.mark.parametrize("line", RUNS)
def test_every_row_is_what_its_command_prints(llmcalc, line):
    ran = llmcalc(f"memory {line} --format json")
    table = next((t for t in ran.json["tables"] if t["title"] == "What would change it"), None)
    assert table is not None
    assert ran.results["fits"] != "yes"
    rows = [r for r in table["rows"] if not str(r[0]).startswith("--gpu")]
    for flags, needs, saves, fits, price in rows:
        assert saves == ran.results["need_bytes"] - needs > 0
        assert price
        again = line
        if "(no --recipe)" in flags:
            again = " ".join(w for w in _without(line.split(), "--recipe"))
        found = llmcalc(f"memory {again} {flags.replace('(no --recipe)', '')} --format json").results
        assert (found["need_bytes"], found["fits"]) == (needs, fits)
    answers = [r[3] != "no" for r in rows]
    assert answers == sorted(answers, reverse=True)  # those that fit first


@pytest.mark.parametrize("line", [
    "infer llama-3.1-70b --gpu rtx-4090",
    "infer qwen2.5-7b --gpu rtx-3060-12gb --batch-size 4",
    "kvcache llama-3.1-8b --gpu rtx-3060-12gb --seq-len 8k",
    "kvcache llama-3.1-8b --gpu rtx-3060-12gb --seq-len 128k",
    "kvcache mixtral-8x7b --gpu h100-sxm --new-tokens 100",
    "memory gpt-oss-120b --engine vllm --gpu h100-sxm",
    "memory llama-3.1-70b --engine vllm --tensor-parallel 2 --gpu a100-80gb --max-model-len 32k",
])  # fmt: skip
def test_the_other_commands_advise_what_they_then_print(llmcalc, line):
    ran = llmcalc(f"{line} --format json")
    assert ran.results["fits"] == "no"
    table = next(t for t in ran.json["tables"] if t["title"] == "What would change it")
    rows = [r for r in table["rows"] if not str(r[0]).startswith("--gpu ")]
    assert rows
    assert f" With {next(r[0] for r in rows if r[3] == 'yes')}: " in ran.json["verdict"]
    for flags, needs, saves, fits, _ in rows:
        assert saves == ran.results["need_bytes"] - needs
        found = llmcalc(f"{line} {flags} --format json").results
        assert (found["need_bytes"], found["fits"]) == (needs, fits), flags


def _without(words: list[str], flag: str) -> list[str]:
    at = words.index(flag)
    return words[:at] + words[at + 2 :]


@pytest.mark.parametrize(("line", "best"), [
    ("qwen2.5-7b --gpu rtx-3060-12gb", "--quantization int8"),
    ("llama-3.1-70b --gpu rtx-4090", "--quantization q4_k_m --gpu-layers 44"),
    ("llama-3.1-8b --mode training --method lora --gpu rtx-3060-12gb --checkpointing full --loss fused",
     "--method qlora"),
    ("llama-3.1-70b --mode training --method qlora --gpu rtx-4090 --gpus 2",
     "--checkpointing full --stage 3 --offload all"),
    ("mixtral-8x7b --mode training --gpu rtx-4090 --gpus 8", "--checkpointing full --stage 3 --offload all"),
])  # fmt: skip
def test_what_people_would_do_is_said(llmcalc, line, best):
    """Fewer bits, another engine, as many changes as it takes; in the verdict and in the table's first row."""
    ran = llmcalc(f"memory {line} --format json")
    assert f" With {best}: " in ran.json["verdict"]
    table = next(t for t in ran.json["tables"] if t["title"] == "What would change it")
    assert table["rows"][0][0] == best


def test_none_of_several_changes_can_be_left_out(llmcalc):
    line = "memory mixtral-8x7b --mode training --gpu rtx-4090 --gpus 8"
    for fewer in ("--checkpointing full --stage 3", "--stage 3 --offload all", "--checkpointing full --stage 2"):
        assert llmcalc(f"{line} {fewer} --format json").results["fits"] == "no"


@pytest.mark.parametrize(("line", "more", "fewer"), [
    ("llama-3-8b --mode training --gpu rtx-4090", "--gpus 8 --stage 3 --checkpointing full",
     "--gpus 4 --stage 3 --checkpointing full"),
    ("qwen3-32b --mode training --gpu h100-sxm", "--gpus 8 --stage 3 --checkpointing full",
     "--gpus 4 --stage 3 --checkpointing full"),
    ("llama-3.1-405b --method lora --gpu h100-sxm", "--gpus 32 --stage 3 --checkpointing full",
     "--gpus 16 --stage 3 --checkpointing full"),
    ("llama-3.1-405b --mode training --recipe deepspeed --gpus 8 --gpu h100-sxm",
     "--gpus 128 --stage 3 --checkpointing full", "--gpus 64 --stage 3 --checkpointing full"),
])  # fmt: skip
def test_the_same_training_on_the_fewest_cards_that_hold_it(llmcalc, line, more, fewer):
    tables = llmcalc(f"memory {line} --format json").json["tables"]
    table = next(t for t in tables if t["title"] == "What would change it")
    assert more in [r[0] for r in table["rows"] if r[3] == "yes"]
    line = line.replace("--gpus 8", "")
    assert llmcalc(f"memory {line} {more} --format json").results["fits"] == "yes"
    assert llmcalc(f"memory {line} {fewer} --format json").results["fits"] != "yes"


@pytest.mark.parametrize(("line", "most"), [
    ("train -m deepseek-v3 --recipe deepspeed --gpus 2 --gpu rtx-4090 -b 4", 20),
    ("memory --mode training -m deepseek-v3 --recipe deepspeed --method lora --targets all-linear --checkpointing full "
     "--gpus 4 --gpu rtx-4090 -b 4", 16),
])  # fmt: skip
def test_advice_simulates_few_steps(llmcalc, monkeypatch, line, most):
    """No step whose weights alone are too large is run in pairs, stages 1 and 2 are one run where every gradient fits a
    bucket (experts in full training do not): 26 and 27 steps before."""
    from estimator import moments
    from estimator.commands.memory import changes

    steps, asked = [], []
    kept, run = moments._training, changes.run
    monkeypatch.setattr(moments, "_training", lambda *a: steps.append(a) or kept(*a))
    monkeypatch.setattr(changes, "run", lambda *a: asked.append(a) or run(*a))
    assert "No card of the presets holds it" in llmcalc(f"{line} --format json").json["verdict"]
    assert len(asked) >= 25
    assert len(steps) <= most


def test_where_no_change_surely_fits_alone_two_that_do_come_first(llmcalc):
    line = "--model qwen3-8b --method qlora --batch-size 4 --seq-len 2048 --gpu rtx-3090"
    tables = llmcalc(f"memory {line} --format json").json["tables"]
    table = next(t for t in tables if t["title"] == "What would change it")
    assert {r[3] for r in table["rows"] if r[0] in ("--checkpointing full", "--batch-size 1")} == {"tight"}
    assert table["rows"][0][0] == "--loss fused --checkpointing full"
    assert table["rows"][0][3] == "yes"


@pytest.mark.parametrize(("gpu", "vendor"), [("rtx-4090", "NVIDIA"), ("rx-7900-xtx", "AMD"), ("12GB", "NVIDIA")])
def test_a_larger_card_runs_the_same_software(llmcalc, gpu, vendor):
    from estimator.presets import load_gpu

    ran = llmcalc(f"memory --model llama-3-70b --mode inference --gpu {gpu} --format json")
    table = next(t for t in ran.json["tables"] if t["title"] == "What would change it")
    named = [str(r[0]).removeprefix("--gpu ") for r in table["rows"] if str(r[0]).startswith("--gpu ")]
    assert len(named) == 1
    assert load_gpu(named[0]).vendor == vendor


@pytest.mark.parametrize(("words", "mode"), [
    ("", "inference"), ("--method lora", "training"), ("--method qlora --rank 16", "training"),
    ("--optimizer adamw", "training"),
    ("--checkpointing full", "training"), ("--accumulation 4", "training"), ("--recipe sft", "training"),
    ("--method lora --new-tokens 5", "inference"), ("--method lora --mode inference", "inference"),
])  # fmt: skip
def test_who_says_how_to_train_asks_for_a_training_step(llmcalc, words, mode):
    ran = llmcalc(f"memory --model gpt2 {words} --format json")
    assert ran.json["inputs"]["mode"] == mode
    assert any("--mode not given" in a for a in ran.json["assumptions"]) == (mode == "training")


@pytest.mark.parametrize("line", RUNS)
def test_the_verdict_is_the_second_line(llmcalc, line):
    out = llmcalc(f"memory {line}").out.splitlines()
    head = " ".join(out[:5])
    assert any(words in head for words in ("Does not fit: ", "Just fits, perhaps: "))
    assert "GiB" in head


DEFAULTS = ["memory", "memory --mode training", "infer", "kvcache", "kvcache --gpu h100-sxm", "train", "peft",
            "peft --targets all-linear"]  # fmt: skip


@pytest.mark.parametrize("line", DEFAULTS)
def test_the_default_answer_is_one_screen(llmcalc, line, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = llmcalc(line).out.rstrip("\n").splitlines()
    assert len(out) <= 25
    assert max(map(len, out)) <= 80
    assert len(llmcalc(f"{line} --detail").out.splitlines()) >= len(out)


def test_answers_fit_and_margins_agree(llmcalc):
    for mode, gpu in itertools.product(("inference", "training"), ("h100-sxm", "rtx-4090", "12GB")):
        r = llmcalc(f"memory --mode {mode} --model llama-3.2-1b --gpu {gpu} --format json").results
        assert r["need_bytes.low"] <= r["need_bytes"] <= r["need_bytes.high"]
        assert r["margin_bytes"] == r["have_bytes"] - r["need_bytes"]
        sure, never = r["need_bytes.high"] <= r["have_bytes"], r["need_bytes.low"] > r["have_bytes"]
        assert r["fits"] == ("yes" if sure else "no" if never else "tight")


@pytest.mark.parametrize("name", ["batch-size", "seq-len", "rank"])
@pytest.mark.parametrize("model", ["llama-3.2-1b", "qwen3-0.6b", "gemma-3-1b", "mamba-130m", "flan-t5-base"])
def test_the_largest_fits_and_one_more_does_not(llmcalc, model, name):
    line = f"memory --mode training --model {model} --method lora --seq-len 512 --gpu rtx-4090 --format json"
    if model == "mamba-130m":
        line = line.replace("--method lora", "--method lora --targets in_proj")
    found = llmcalc(f"{line} --largest {name}")
    assert found.code == 0, found.err
    most = found.results[f"largest.{name.replace('-', '_')}"]
    sure = found.results[f"largest.{name.replace('-', '_')}.sure"]
    assert 0 < sure <= most
    fits = [llmcalc(f"{line} --{name} {n}").results["fits"] for n in (sure, sure + 1, most, most + 1)]
    assert fits[0] == "yes"
    assert fits[1] != "yes"
    assert fits[2:] == ["tight" if most > sure else "yes", "no"]
    assert found.json["verdict"].startswith(f"Largest --{name}")


def test_simulated_blocks_decide_what_the_spread_leaves_open(llmcalc):
    line = "memory --model llama-3-8b --method qlora --rank 16 --gpu rtx-4090 --format json"
    spread, blocks = llmcalc(line), llmcalc(f"{line} --allocator simulated")
    assert spread.results["fits"] == "tight"
    assert spread.json["verdict"].endswith("--allocator simulated looks closer.")
    assert blocks.results["fits"] == "yes"
    assert blocks.results["peak.allocated_bytes"] == spread.results["peak.allocated_bytes"]
    reserved = [blocks.results[f"peak.reserved_bytes{end}"] for end in (".low", "", ".high")]
    assert reserved == sorted(reserved)
    assert blocks.results["peak.blocks_bytes"] <= reserved[1]
    assert spread.results["peak.reserved_bytes.low"] <= reserved[1] <= spread.results["peak.reserved_bytes.high"]


@pytest.mark.parametrize(("words", "said"), [
    ("--mode inference --allocator simulated", "follows a training step"),
    ("--gpus 8 --allocator simulated", "follows one GPU"),
    ("--compile --allocator simulated", "without torch.compile"),
    ("--allocator simulated --derive", "needs numbers"),
    ("--allocator best", "--allocator"),
])  # fmt: skip
def test_what_the_blocks_cannot_follow_is_said(llmcalc, words, said):
    ran = llmcalc(f"memory --model gpt2 {words}")
    assert ran.code == 2
    assert said in ran.err
