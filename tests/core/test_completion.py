"""Completion and the manual page say what the commands have."""

from __future__ import annotations

import re

import pytest

from estimator.cli import COMMANDS
from estimator.commands.completion.words import FIRST, VALUES, candidates, typer_of
from estimator.presets import ids


def texts(*words):
    return [w.text for w in candidates(words)]


def test_commands_and_options():
    assert texts("") == [*COMMANDS, "--help", "--version"]
    assert texts("kv") == ["kvcache"]
    assert "--optimizer-in-backward" in texts("memory", "--opt")
    assert texts("nothing", "") == []
    assert {"tune", "train", "serve"} <= set(texts("plan", ""))
    assert "--gamma" in texts("decode", "speculative", "--g")


def test_values_and_models():
    assert texts("memory", "--model", "") == list(ids("models"))
    assert texts("kvcache", "gpt2-x") == ["gpt2-xl"]
    assert texts("peft", "--method", "lora,ql") == ["lora,qlora"]  # of a list the last item
    assert texts("memory", "--gpu=h100-s") == ["--gpu=h100-sxm"]
    assert texts("memory", "--optimizer", "ADAMW-F") == ["adamw-fused", "adamw-forloop"]
    assert texts("memory", "--batch-size", "") == []  # a size


@pytest.mark.parametrize("option", VALUES)
def test_every_value_of_an_option_that_some_command_has(option):
    assert VALUES[option]()
    assert any(option in texts(name, *below, "-") for name in COMMANDS for below in _below(name))


def _below(name):
    return [[], *([n] for n in getattr(typer_of(name), "commands", {}))]


@pytest.mark.parametrize("name", FIRST)
def test_first_words_are_of_commands(name):
    assert name in COMMANDS
    assert FIRST[name]()


def test_scripts_and_errors(llmcalc):
    for shell in ("bash", "zsh", "fish"):
        made = llmcalc("completion", shell)
        assert "llmcalc completion words" in made.out
        assert llmcalc("--show-completion", shell).out == made.out
    for bad in (["completion", "tcsh"], ["completion", "bash", "zsh"], ["--show-completion", "sh"], ["man", "memry"]):
        ran = llmcalc(*bad)
        assert ran.code == 2
        assert ran.err.count("\n") == 1


def test_the_manual_has_every_option(llmcalc):
    for name in set(COMMANDS) - {"sweep"}:  # whose options are those of the command that is swept
        page = llmcalc("man", name).out.replace("\\-", "-")
        assert page.startswith(".TH LLMCALC")
        options = {w for below in _below(name) for w in texts(name, *below, "--")}
        assert {o for o in options if o not in page} <= {"--help", "--standalone", "--table", *COMMANDS}
        assert not re.search(r"^[.'](?![A-Z])", page, re.M)  # no text that troff takes for a request
