"""``--format html`` in a real browser: formulas are set, tables sort, the picture is there, nothing is fetched."""

from __future__ import annotations

import re

import pytest

from estimator import api
from estimator.report import Node, Report, Table, Text
from estimator.units import COUNT

BOXES = "nodes => nodes.map(n => { const r = n.getBoundingClientRect(); return [r.width, r.height] })"


@pytest.fixture
def opened(watched, tmp_path):
    """``opened(page)``: playwright's page of a report; it may ask for nothing and complain of nothing."""

    def call(text: str):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        watched.page.goto(file.as_uri())
        return watched.page

    yield call
    assert watched.outside("file:") == []
    assert watched.errors == []


def fits(page) -> bool:
    """Whether the page is no wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_formulas_are_set(llmcalc, opened):
    made = llmcalc(
        "peft --model symbolic --method lora --rank R --targets q_proj,k_proj,v_proj --dtype fp16 "
        "--symbols L=N_layer,d=D --derive --format html"
    )
    page = opened(made.out)
    assert page.locator("h1").inner_text() == "LoRA on symbolic: q_proj, k_proj, v_proj"
    boxes = page.locator("math").evaluate_all(BOXES)
    assert len(boxes) > 30
    assert all(w > 2 and h > 4 for w, h in boxes)
    assert page.locator("math mfrac").count() >= 2  # 100 R / (2 D + R)
    assert page.locator("math msub").count() >= 10
    text = page.locator("body").inner_text()
    assert "the common factor taken out" in text
    assert "bytes" in text
    assert "\\" not in text  # no LaTeX left over
    assert fits(page)


def test_the_picture_and_the_verdict(llmcalc, opened):
    page = opened(llmcalc("kvcache llama-3-8b --gpu rtx-4090 --format html").out)
    assert page.locator("svg").first.bounding_box()["width"] > 400
    text = page.locator("body").inner_text()
    assert "Fits: needs" in text
    assert "268,435,456" in text
    assert fits(page)


def test_a_table_sorts_by_its_numbers(llmcalc, opened):
    page = opened(llmcalc("peft --model gpt2 --method all --format html").out)
    heads = page.locator("thead button").all_inner_texts()

    def column(name: str) -> list[str]:
        return page.locator(f"tbody td:nth-child({heads.index(name) + 1})").all_inner_texts()

    page.get_by_role("button", name="trained", exact=True).click()
    order = [_number(x) for x in column("trained")]
    assert order == sorted(order)
    assert order[0] < 10_000 < order[-1]
    page.get_by_role("button", name="trained", exact=True).click()
    assert [_number(x) for x in column("trained")] == order[::-1]
    page.get_by_role("button", name="name", exact=True).press("Enter")  # by the keyboard too
    assert column("name") == sorted(column("name"), key=str.casefold)


def _number(shown: str) -> float:
    value, _, suffix = shown.partition(" ")
    return float(value.replace(",", "")) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}[suffix]


HOSTILE = "<img src=https://example.invalid/x onerror=\"document.title='run'\"></script><b>&\"'"


def test_other_peoples_texts_are_shown_not_run(opened):
    node = Node("key", HOSTILE, 1, COUNT, note=HOSTILE)
    table = Table(HOSTILE, (HOSTILE, "n"), ((HOSTILE, "2"),), note=HOSTILE)
    report = Report("x", HOSTILE, {}, (node, table, Text(HOSTILE, HOSTILE)), {"word": HOSTILE}, (HOSTILE,),
                    verdict=HOSTILE)  # fmt: skip
    page = opened(api.to_text(report, "html"))
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.title() == HOSTILE
    assert page.locator("body").inner_text().count("<img src=") == 12  # every text that was given


@pytest.mark.parametrize("command", ["gpus h100-sxm", "memory gpt2 --mode training", "fermi gpt3-cost --samples 0",
                                     "chinchilla --compute 1e21 --derive", "infer llama-3-8b --gpu h100-sxm"])
def test_every_kind_of_report_is_one_file(llmcalc, opened, command):
    made = llmcalc(f"{command} --format html").out
    assert not re.search(r"<(link|img|iframe)\b|\bsrc=|@import|url\(", made)
    page = opened(made)
    assert page.locator("h1").inner_text()
    assert fits(page)


def test_a_notebooks_cell(opened):
    report = api.kvcache("llama-3-8b", seq_len="8k")
    page = opened(f"<!doctype html><html><body>{report._repr_html_()}</body></html>")
    assert "1,073,741,824" in page.locator("body").inner_text()
    assert report._repr_markdown_().startswith("## KV cache of llama-3-8b")
    assert "\\begin{tabular}" in report._repr_latex_()
