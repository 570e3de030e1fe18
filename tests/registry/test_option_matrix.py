"""One option means the same, is checked the same and is refused the same in every command that has it."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.cli import COMMANDS
from estimator.commands.flops.question import Flops
from estimator.commands.infer.question import Infer
from estimator.commands.kvcache.question import KVCache
from estimator.commands.memory.question import Memory
from estimator.commands.peft.question import Peft
from estimator.commands.train.question import Train
from estimator.commands.zero.question import Zero
from estimator.questions import options_of

QUESTIONS: dict[str, Any] = {
    "memory": Memory, "peft": Peft, "zero": Zero, "kvcache": KVCache, "flops": Flops, "train": Train, "infer": Infer,
}  # fmt: skip
MODE = {"memory": " --mode training", "flops": " --mode training", "train": " --steps 1"}
ADAPTED = ("memory", "peft", "flops", "train")
MODEL = "--model pythia-14m"


def line(command: str, rest: str) -> str:
    return f"{command} {MODEL}{MODE.get(command, '')} {rest}"


# option -> (a value, the same value as other people write it)
SAME = [
    ("method", "full", "Full"),
    ("method", "full", "none"),
    ("method", "lora", "LoRA"),
    ("method", "prompt_tuning", "Prompt-Tuning"),
    ("method", "qlora --targets all-linear", "QLoRA --targets all-linear"),
    ("optimizer", "adamw", "adamw_torch"),
    ("optimizer", "adamw-fused", "adamw_torch_fused"),
    ("optimizer", "adamw8bit", "adamw_bnb_8bit"),
    ("recipe", "torch-mixed", "Torch_Mixed"),
    ("attention", "sdpa", "flash_attention_2"),
    ("attention", "eager", "EAGER"),
    ("checkpointing", "full", "Full"),
    ("quantization", "nf4 --method lora", "4bit --method lora"),
    ("batch_size", "2048", "2k"),
]


@pytest.mark.parametrize("command", [*ADAPTED, "zero", "infer", "kvcache"])
@pytest.mark.parametrize(("option", "one", "other"), SAME, ids=lambda x: str(x).split()[0])
def test_names_are_read_alike(llmcalc, command, option, one, other):
    names = {f.name for f, _ in options_of(QUESTIONS[command])}
    if option not in names or ("--method" in one and "method" not in names):
        return
    if command == "peft" and other == "none":
        other = "FULL"
    flag = f"--{option.replace('_', '-')}"
    first, second = (llmcalc(line(command, f"{flag} {value} --format json")) for value in (one, other))
    assert (first.code, first.out) == (second.code, second.out), second.err
    assert first.code == 0, first.err


REFUSED = [
    ("--method ia3 --rank 8", "has no rank"),
    ("--method lora --rank 8 --arg r=16", "say different things"),
    ("--method lora --trainable-layers 2", "is for --method freeze"),
    ("--method lora --rank 0", "must be >= 1"),
    ("--method nosuch", "unknown --method"),
    ("--method lora --targets nosuch", "nosuch"),
]


@pytest.mark.parametrize("command", ADAPTED)
@pytest.mark.parametrize(("rest", "says"), REFUSED, ids=lambda x: str(x).replace(" ", ""))
def test_adapters_are_refused_alike(llmcalc, command, rest, says):
    ran = llmcalc(line(command, rest))
    assert ran.code == 2, ran.out
    assert says in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", ["memory", "flops", "train"])
@pytest.mark.parametrize("rest", ["--rank 8", "--targets q_proj", "--arg r=8", "--trainable-layers 1"])
def test_an_option_of_an_adapter_needs_one(llmcalc, command, rest):
    ran = llmcalc(line(command, rest))
    assert (ran.code, "add --method" in ran.err) == (2, True)


@pytest.mark.parametrize("command", sorted(QUESTIONS))
@pytest.mark.parametrize("option", ["batch_size", "seq_len", "gpus", "rank"])
@pytest.mark.parametrize("value", ["0", "-1", "1e30", "nan", "x", "1.5"])
def test_sizes_are_refused_alike(llmcalc, command, option, value):
    names = {f.name for f, _ in options_of(QUESTIONS[command])}
    if option not in names or (command == "peft" and option == "seq_len"):
        return
    adapter = " --method lora" if option == "rank" else ""
    letters = command == "zero" and value == "x"
    ran = llmcalc(line(command, f"--{option.replace('_', '-')} {value}{adapter}"))
    assert ran.code == 2 or (letters and ran.code == 0), ran.out
    assert ran.err.startswith("error: --" if not letters else "error"), ran.err


@pytest.mark.parametrize("command", sorted(QUESTIONS))
def test_the_model_may_stand_first(llmcalc, command):
    rest = MODE.get(command, "")
    first, flagged = llmcalc(f"{command} pythia-14m{rest}"), llmcalc(f"{command} --model pythia-14m{rest}")
    assert (first.code, first.out) == (0, flagged.out)


def test_without_a_length_no_model_is_given_more_tokens_than_it_has_positions(llmcalc):
    found = {c: llmcalc(f"{c} gpt2{MODE.get(c, '')} --format json").json["inputs"]["seq_len"]
             for c in ("memory", "flops", "train", "kvcache", "infer")}  # fmt: skip
    assert found == {"memory": 1024, "flops": 1024, "train": 1024, "kvcache": 1024, "infer": 768}


def test_qlora_means_one_base_everywhere(llmcalc):
    """W3: `train --method qlora` timed a bf16 base."""
    same = "--method lora --targets all-linear --quantization nf4-dq"
    for command in ("train", "memory"):
        one, other = (
            llmcalc(f"{command} {MODEL}{MODE[command]} {how} --format json").results
            for how in ("--method qlora --targets all-linear", same)
        )
        assert one == other


def test_one_verdict(llmcalc):
    """`memory`, `train` and `zero` say the same of one run; so do `memory`, `infer` and `kvcache` of another."""
    run = "--model llama-3-8b --batch-size 1 --seq-len 4k --checkpointing full --recipe torch-mixed --gpu h100-sxm"
    shard = "--gpus 8 --stage 3"
    found = [
        llmcalc(f"{c} {run} {shard} --optimizer adamw-fused{MODE.get(c, '')} --format json").results
        for c in ("memory", "train", "zero")
    ]
    assert len({r["need_bytes"] for r in found}) == 1
    assert {r["fits"] for r in found} == {"yes"}
    serve = "--model llama-3-8b --batch-size 4 --seq-len 1k --gpu rtx-4090"
    two = [llmcalc(f"{c} {serve} --new-tokens 8 --format json").results for c in ("memory", "infer")]
    assert two[0]["need_bytes"] == two[1]["need_bytes"]


def test_every_question_is_a_command():
    assert set(QUESTIONS) <= set(COMMANDS)
