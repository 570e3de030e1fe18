"""The public API: its names, that they resolve, and that a report says the same as the command line."""

from __future__ import annotations

import pytest

from estimator import api


def test_names_are_pinned():
    assert sorted(api.__all__) == [
        "DoesNotFit", "InputError", "LlmcalcError", "Model", "Node", "Report", "Table", "Text", "beam", "chinchilla",
        "explain", "fermi", "fit", "flops", "forget", "infer", "kvcache", "linear", "load_gpu", "load_model", "memory",
        "peft", "plan", "prune", "quantize", "speculative", "sweep", "to_text", "train", "tree", "validate", "zero",
    ]  # fmt: skip


@pytest.mark.parametrize("name", api.__all__)
def test_every_name_resolves_and_is_documented(name):
    assert getattr(api, name).__doc__


def test_the_api_and_the_command_line_agree(llmcalc):
    report = api.kvcache(api.load_model("llama-3-8b"), batch_size=2, seq_len="8k")
    assert report.results() == llmcalc("kvcache --model llama-3-8b --batch-size 2 --seq-len 8k --format json").results


def test_a_derivation_through_the_api():
    api.forget()
    report = api.kvcache(api.load_model("gpt2", traced=True), seq_len=1024)
    text = api.to_text(report, "table", derive=True)
    assert "= 4*L*b*s*d" in text
    api.forget()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = api.nothing


def test_a_model_by_its_name():
    by_name, loaded = api.memory("gpt2", seq_len=512), api.memory(api.load_model("gpt2"), seq_len=512)
    assert by_name.results() == loaded.results()


def test_an_option_that_is_not_there_is_one_line():
    with pytest.raises(api.InputError, match="memory has no option 'batchsize'"):
        api.memory("gpt2", batchsize=2)
