"""An option that would change nothing is refused: alone where it is of another, of serving in training, and back."""

from __future__ import annotations

import pytest

from estimator.api import memory
from estimator.commands.infer.question import Infer
from estimator.commands.kvcache.question import KVCache
from estimator.commands.memory.question import Memory
from estimator.commands.train.question import Train
from estimator.commands.zero.question import Zero
from estimator.errors import InputError
from estimator.questions import ask
from estimator.questions.base import flag_of, options_of
from estimator.questions.parts import OF_ENGINES

QUESTIONS = (Memory, Train, Infer, KVCache, Zero)
# zero's own defaults ask for something: eight GPUs, a recipe
BESIDE = [
    (q, f.name) for q in QUESTIONS for f, words in options_of(q)
    if words.of and not (q is Zero and {"gpus", "stage", "recipe"} & set(words.of))
]  # fmt: skip
VALUES = {"flag": True, "int": 3, "float": 3.0}


def odd(question, name):
    """A value that is not the field's default."""
    kind = next(words.kind for f, words in options_of(question) if f.name == name)
    return VALUES.get(kind, "3")


@pytest.mark.parametrize(("question", "name"), BESIDE, ids=lambda x: getattr(x, "__name__", x))
def test_what_means_nothing_alone(question, name):
    with pytest.raises(InputError, match=rf"^{flag_of(name, question)}( 3.*)? changes nothing alone: add --"):
        ask(question, "pythia-14m", {name: odd(question, name)})


@pytest.mark.parametrize("name", OF_ENGINES)
@pytest.mark.parametrize("engine", ["", "--engine fused"])
def test_options_of_serving_in_training(llmcalc, name, engine):
    value = odd(Memory, name)
    more = {"max_lora_rank": " --max-loras 2", "dp_attention": " --data-parallel 2"}.get(name, "")
    words = flag_of(name, Memory) if value is True else f"{flag_of(name, Memory)} {value}"
    ran = llmcalc(f"memory pythia-14m --mode training {words}{more} {engine}")
    assert ran.code == 2
    assert "is of serving, not of a training step" in ran.err


def test_a_context_in_training_is_a_length(llmcalc):
    ran = llmcalc("memory pythia-14m --mode training --ctx-size 512")
    assert ran.err.strip().endswith("not of a training step: --seq-len 512 is its length")
    assert llmcalc("memory pythia-14m --mode training --seq-len 512").code == 0


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
@pytest.mark.parametrize("options", [
    "--accumulation 2", "--autocast bf16", "--kernels liger", "--compile", "--packing", "--transformers 4.57",
    "--recipe sft", "--gradients kept", "--prepare-kbit", "--activation-offload", "--checkpointing full",
    "--loss chunked", "--logits all",
    "--allocator simulated", "--offload all", "--context-parallel 2",
])  # fmt: skip
def test_options_of_training_in_serving(llmcalc, engine, options):
    ran = llmcalc(f"memory pythia-14m --engine {engine} --gpu h100-sxm {options}")
    assert ran.code == 2
    assert f"{options.split()[0]} is no option of " in ran.err


@pytest.mark.parametrize(("typed", "said"), [
    ("memory pythia-14m --mode training --buckets auto --recipe trainer", "is DeepSpeed's"),
    ("memory pythia-14m --mode training --overlap-comm off --gpus 2 --recipe torch-bf16", "is DeepSpeed's"),
    ("kvcache pythia-14m --encoder-len 7", "has no encoder beside its decoder"),
    ("kvcache pythia-14m --tensor-parallel 2", "changes nothing alone: add --engine"),
    ("infer pythia-14m --gpu h100-sxm --pipeline-parallel 2", "changes nothing alone: add --engine"),
    ("infer pythia-14m --gpu h100-sxm --engine llama.cpp --gpus 17", "llama.cpp takes at most 16 devices"),
    ("kvcache pythia-14m --gpu h100-sxm --engine vllm --rate 2", "is of the time of serving"),
    ("flops pythia-14m --checkpointing full", "is of a training step"),
    ("memory pythia-14m --stage 3", "--stage 3 shards a training step"),
])  # fmt: skip
def test_refused(llmcalc, typed, said):
    ran = llmcalc(typed)
    assert (ran.code, said in ran.err) == (2, True), ran.err


def test_a_paper_has_no_use_for_the_loop(llmcalc):
    ran = llmcalc("train pythia-14m --gpu h100-sxm --tokens 1G --gpus 8 --recipe megatron --reentrant --format json")
    assert "--reentrant is not used by recipe megatron" in ran.out
    ran = llmcalc("memory pythia-14m --mode training --recipe megatron --gpus 8 --loss chunked --format json")
    assert "--loss chunked is not used by recipe megatron" in ran.out


def test_the_memory_of_a_program_is_heeded_by_zero(llmcalc):
    one, other = (
        llmcalc(f"zero pythia-14m --gpus 8 {flag} 3GB --format json").json for flag in ("--memory", "--gpu-memory")
    )
    assert one["tables"] == other["tables"]
    assert one["results"] == other["results"]


@pytest.mark.parametrize("given", [{"replicas": 1}, {"accumulation": 1}, {"tensor_parallel": 1}, {"fsdp_version": 2}])
def test_a_default_may_be_a_number(given):
    """From Python: the number and its text are one."""
    asked = {"engine": "vllm", "gpu": "h100-sxm"}
    assert memory("pythia-14m", **asked, **given).results() == memory("pythia-14m", **asked).results()
    assert memory("pythia-14m", "training", **given).results() == memory("pythia-14m", "training").results()
