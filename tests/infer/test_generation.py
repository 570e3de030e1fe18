"""train --recipe grpo beside infer: what generating the completions takes, and that it is said."""

from __future__ import annotations

import shlex

import pytest

from estimator import api

ASKED = {"recipe": "grpo", "method": "lora", "examples": "10k", "gpu": "h100-sxm"}


@pytest.mark.parametrize(("batch", "accumulation", "length", "answer"), [(1, 1, 2048, None), (8, 4, 1024, 256)])
def test_generation_is_infers_on_the_same_card(batch, accumulation, length, answer):
    made = api.train(
        "qwen3-0.6b", batch_size=batch, accumulation=accumulation, seq_len=length, answer_len=answer, **ASKED
    )
    new = answer or length // 2
    there = api.infer(
        "qwen3-0.6b", batch_size=batch * accumulation, seq_len=length - new, new_tokens=new, gpu="h100-sxm",
        engine="transformers",
    )  # fmt: skip
    assert made.value("generation.seconds") == there.value("request_seconds")
    assert made.value("generation.hours") == pytest.approx(there.value("request_seconds") * made.value("steps") / 3600)
    a_hour = made.value("usd") / made.value("gpu_hours")
    assert made.value("generation.usd") == pytest.approx(made.value("generation.hours") * a_hour)


def test_the_command_that_it_names_answers_it(llmcalc):
    ran = llmcalc("train qwen3-0.6b --recipe grpo --method lora --examples 10k --gpu h100-sxm --batch-size 4")
    (note,) = [x for x in ran.err.splitlines() if "generating the completions is not in it" in x]
    command = note[note.index("llmcalc infer") + len("llmcalc ") : note.index(", a step")]
    assert shlex.split(command)[:2] == ["infer", "qwen3-0.6b"]
    found = llmcalc(f"{command} --format json").json["results"]["request_seconds"]
    assert api.train("qwen3-0.6b", batch_size=4, **ASKED).value("generation.seconds") == pytest.approx(found)
    assert "Generating, not in it: hours" in ran.out


def test_every_gpu_generates_its_own():
    one, four = (api.train("qwen3-0.6b", gpus=n, seq_len=512, **ASKED) for n in (1, 4))
    assert four.value("generation.seconds") == one.value("generation.seconds")
    assert four.value("generation.hours") == pytest.approx(one.value("generation.hours") / 4)
    assert four.value("generation.usd") == pytest.approx(one.value("generation.usd"))


def test_recipes_that_generate_nothing_have_no_such_row():
    for recipe in ("sft", "dpo", "trainer"):
        assert "generation.hours" not in api.train("qwen3-0.6b", **ASKED | {"recipe": recipe}).results()
