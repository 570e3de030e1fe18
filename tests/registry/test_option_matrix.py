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


ONE = "--model llama-3.2-1b --batch-size 2 --seq-len 2k"
# (commands, options): one question that these commands answer; what they leave out they refuse
ALL = ("memory", "train", "zero")
TRAINED = [
    (("memory", "train"), ""),
    (("memory", "train"), "--checkpointing full --accumulation 4"),
    (("memory", "train"), "--method lora --rank 32 --targets all-linear"),
    (("memory", "train"), "--method qlora --accumulation 2 --checkpointing full"),
    (("memory", "train"), "--gpus 2 --stage 3 --method lora --arg autocast_adapter_dtype=false --recipe torch-bf16 "
     "--optimizer adamw"),
    (("memory", "train"), "--gpus 4 --stage 2 --accumulation 2 --recipe torch-mixed --optimizer adamw"),
    *((ALL, f"--gpus 8 --stage {n} --recipe torch-mixed --optimizer adamw-fused") for n in range(4)),
    *((ALL, f"--gpus 4 --stage {n} --recipe deepspeed --optimizer adamw") for n in range(1, 4)),
    *((ALL, f"--gpus 16 --stage {n} --recipe megatron --optimizer adamw --tensor-parallel 2 "
       f"--pipeline-parallel 4 {how}") for n in (1, 3)
      for how in ("", "--schedule interleaved --virtual-stages 2", "--pipeline-split ends")),
]  # fmt: skip
NEED = ("need_bytes", "need_bytes.low", "need_bytes.high", "have_bytes", "fits")
MICRO = {"train": "--accumulation 8", "memory": "--micro-batches 8", "zero": "--micro-batches 8"}


@pytest.mark.parametrize("gpu", ["rtx-3060", "h100-sxm"])
@pytest.mark.parametrize(("commands", "options"), TRAINED, ids=[x.replace(" ", "") for _, x in TRAINED])
def test_one_verdict_of_a_step(llmcalc, commands, options, gpu):
    """`memory`, `train` and `zero` say the same of one step: stage, degrees, accumulation, adapter."""
    found = []
    for c in commands:
        micro = MICRO[c] if "--pipeline-parallel" in options else ""
        ran = llmcalc(f"{c} {ONE} --gpu {gpu} {options} {micro}{MODE.get(c, '')} --format json")
        assert ran.code == 0, (c, ran.err)
        found.append({k: ran.results[k] for k in NEED})
    assert all(f == found[0] for f in found), found


SERVED = [
    "", "--quantization nf4", "--engine vllm", "--engine vllm --tensor-parallel 2 --kv-dtype fp8",
    "--engine sglang --quantization fp8", "--engine tensorrt-llm --pipeline-parallel 2", "--engine tgi",
    "--engine llama.cpp --quantization q4_k_m", "--engine llama.cpp --quantization q8_0 --kv-dtype q8_0",
]  # fmt: skip


@pytest.mark.parametrize("gpu", ["l4", "h100-sxm"])
@pytest.mark.parametrize("options", SERVED, ids=lambda x: x.replace(" ", ""))
def test_one_verdict_of_a_service(llmcalc, options, gpu):
    """`memory`, `infer` and `kvcache` say the same of one service, in every engine."""
    new = {"memory": "--new-tokens 8", "infer": "--new-tokens 8"}
    found = {}
    for c in ("memory", "infer", "kvcache"):
        ran = llmcalc(f"{c} {ONE} --gpu {gpu} {options} {new.get(c, '')} --format json")
        assert ran.code == 0, (c, ran.err)
        found[c] = {k: ran.results.get(k) for k in ("need_bytes", "have_bytes", "fits")}
    assert found["memory"] == found["infer"]
    assert found["kvcache"]["fits"] == found["memory"]["fits"], found


def test_every_question_is_a_command():
    assert set(QUESTIONS) <= set(COMMANDS)
