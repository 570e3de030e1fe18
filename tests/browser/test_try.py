"""The live page answers as the command line does: the text of ``--format json`` equal in every letter.

Seconds and dollars too, though the page's Python is another one with another C library: estimator/alike.py.
"""

from __future__ import annotations

import json
import shlex
import time
from urllib.parse import urlencode

import pytest

from estimator.presets import load_model_preset

COLD, WARM = 15.0, 0.5  # seconds that the page promises: to its first answer, and for a question after that
CONFIG = json.dumps(load_model_preset("qwen3-0.6b")[1]["config"])
QUESTIONS = [
    "llmcalc memory llama-3.1-8b --gpu rtx-4090",
    "llmcalc memory llama-3.1-8b --mode training --method qlora --gpu rtx-4090",
    "llmcalc memory mixtral-8x7b --mode training --gpus 8 --stage 3 --gpu h100-sxm",
    "llmcalc memory config.json --mode training --method lora -r 16 --gpu rtx-3060",
    "llmcalc kvcache deepseek-v3 -s 32k --gpu h200",
    "llmcalc kvcache gemma-2-9b -b 4 -s 8k --kv-dtype fp8",
    "llmcalc kvcache llama-3.1-8b --engine vllm --gpu h100-sxm --max-model-len 8k",
    "llmcalc peft llama-3-8b --method lora --rank 8",
    "llmcalc peft --model symbolic --method lora --rank r",
    "llmcalc zero llama-3.1-70b --gpus 64",
    "llmcalc infer llama-3.1-8b --gpu h100-sxm",
    "llmcalc infer llama-3.1-8b --gpu h100-sxm --engine vllm --rate 2",
    "llmcalc train llama-3.1-8b --tokens 1B --gpus 8 --gpu h100-sxm",
    "llmcalc flops llama-3.1-8b --gpu h100-sxm",
]


def ask(page, line):
    """Type a command line and wait for its answer: the report's element."""
    page.locator(".try-line").fill(line)
    page.locator(".try-line").press("Enter")
    page.wait_for_function(
        "line => { const r = document.querySelector('.try-report');"
        " return r.dataset.line === line && !r.classList.contains('try-old') }",
        arg=line, timeout=60_000,
    )  # fmt: skip
    return page.locator(".try-report")


def slowdown():
    """How many times longer than alone this process takes now, for what else the machine runs: wall over CPU time."""
    wall, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.3:
        pass
    return (time.monotonic() - wall) / (time.process_time() - cpu)


@pytest.fixture
def live(watched, served):
    """The live page, loaded; ``cold``: seconds to its first answer, as on a machine that does nothing else."""
    before, start = slowdown(), time.monotonic()
    watched.page.goto(f"{served}try/")
    watched.page.wait_for_selector(".try-report[data-json]", timeout=120_000)
    watched.cold = (time.monotonic() - start) / max(1.0, (before + slowdown()) / 2)
    return watched


def test_fourteen_questions(live, served, llmcalc, tmp_path, monkeypatch):
    """Asked without a network once the page has loaded."""
    page = live.page
    print(f"first answer after {live.cold:.1f} s")
    page.wait_for_timeout(2000)
    page.context.set_offline(True)
    loaded = len(live.requests)
    folder = tmp_path / "model"  # a config without a name is called by its folder
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    monkeypatch.chdir(folder)
    page.locator(".try-config summary").click()
    page.locator(".try-config textarea").fill(CONFIG)
    for line in QUESTIONS:
        report = ask(page, line)
        assert report.get_attribute("data-code") == "0", report.inner_text()
        expected = llmcalc(*shlex.split(line)[1:], "--format", "json")
        assert report.get_attribute("data-json") == expected.out, line
        if expected.json.get("verdict"):
            assert expected.json["verdict"] in report.inner_text()
    assert not live.outside(served)
    # a new address makes the browser ask for the page's icon again
    assert {url.rpartition("/")[2] for url in live.requests[loaded:]} <= {"favicon.png"}
    assert not [e for e in live.errors if "ERR_INTERNET_DISCONNECTED" not in e]


def test_it_is_quick(live):
    """A cold page answers within COLD seconds; once it has warmed up, each question asked for the first time within
    WARM: as on a machine that does nothing else."""
    assert live.cold < COLD
    live.page.wait_for_selector("#try[data-warm=all]", timeout=120_000)
    took = {}
    for line in QUESTIONS[:3] + QUESTIONS[4:]:
        before = slowdown()
        ask(live.page, line)
        seconds = float(live.page.locator(".try-status").inner_text().split()[2]) / 1000
        took[line] = seconds / max(1.0, (before + slowdown()) / 2)
    print(took)
    assert max(took.values()) < WARM


def test_the_form_writes_the_line_and_the_address_holds_it(live, served):
    page = live.page
    page.get_by_role("tab", name="Fine-tune").click()
    page.locator("[name='--method']").select_option("qlora")
    page.locator("[name=model]").fill("gpt2")
    page.locator("[name=model]").press("Tab")
    line = page.locator(".try-line").input_value()
    assert line.startswith("llmcalc memory gpt2 --mode training --gpu rtx-4090 --method qlora")
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(".try-report[data-json]", timeout=120_000)
    assert other.locator(".try-line").input_value() == line
    assert other.locator("[name='--method']").input_value() == "qlora"


def test_an_address_carries_a_pasted_config(watched, served):
    line = "llmcalc memory config.json --gpu t4"
    watched.page.goto(f"{served}try/#{urlencode({'q': line, 'config': CONFIG})}")
    watched.page.wait_for_selector(".try-report[data-json]", timeout=120_000)
    assert watched.page.locator(".try-report").get_attribute("data-code") == "0"


def test_errors_are_the_command_lines(live, llmcalc):
    for line in ("llmcalc memory gtp2", "llmcalc memory gpt2 --gpu t5", "llmcalc memroy gpt2"):
        report = ask(live.page, line)
        assert report.get_attribute("data-code") == "2"
        assert report.locator(".try-error").inner_text() == llmcalc(*shlex.split(line)[1:]).err.strip()
    assert ask(live.page, "llmcalc memory 'gpt2").locator(".try-error").inner_text() == "error: No closing quotation"


def test_the_working_is_shown(live):
    report = ask(live.page, "llmcalc kvcache gpt2 -s 1k --derive")
    assert "Derivation" in report.inner_text()
    assert report.locator("math").count() > 3
