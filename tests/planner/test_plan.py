"""A plan's rows are what their commands print; its limits hold; a plan that finds nothing says why."""

from __future__ import annotations

import shlex

import pytest

from estimator.commands.plan.search import counts

PLANS = [
    "plan tune llama-3.2-1b --gpu rtx-4090,h100-sxm,a100-80gb --gpus 1..4 --examples 5k --top 8",
    "plan tune --model llama-3-8b --gpu h100-sxm --gpus 1,8 --method lora,qlora --seq-len 4k --top 5",
    "plan train llama-3-8b --tokens 100B --gpus 64 --top 4",
    "plan train --model llama-3-70b --tokens 15T --gpus 512 --gpu h100-sxm,h200 --top 4",
]


@pytest.mark.parametrize("line", PLANS)
def test_every_row_reproduces(llmcalc, line):
    ran = llmcalc(f"{line} --format json")
    assert ran.code == 0, ran.err
    rows = ran.json["rows"]
    assert rows
    for row in rows:
        words = shlex.split(row["command"])
        assert words[0] == "llmcalc"
        again = llmcalc(" ".join(words[1:]) + " --format json").results
        assert row["fits"] in ("yes", "tight")
        for key in ("hours", "usd", "tokens_per_second", "need_bytes", "fits"):
            assert again[key] == row[key], key


def test_rows_stand_cheapest_to_fastest_then_the_others(llmcalc):
    rows = llmcalc(f"{PLANS[0]} --top 100 --format json").json["rows"]
    border = [rows[0]]
    for row in rows[1:]:
        if row["hours"] >= border[-1]["hours"]:
            break
        border.append(row)
    assert [r["usd"] for r in border] == sorted(r["usd"] for r in border)
    for row in rows[len(border) :]:  # another is at least as cheap and as fast
        assert any(b["usd"] <= row["usd"] and b["hours"] <= row["hours"] for b in border)


def test_limits(llmcalc):
    line = "plan tune llama-3.2-1b --gpu h100-sxm,rtx-4090 --gpus 1..8 --examples 100k --format json"
    within = llmcalc(f"{line} --days 0.05 --top 100").json["rows"]
    assert within
    assert all(row["hours"] <= 1.2 for row in within)
    ran = llmcalc(f"{line} --usd 0.01")
    assert ran.json["results"]["fits"] == "no"
    assert "the cheapest costs $" in ran.json["verdict"]
    assert "rows" not in ran.json


def test_csv_is_one_row_a_plan(llmcalc):
    lines = llmcalc(f"{PLANS[0]} --format csv").out.splitlines()
    assert lines[0].startswith("command,layout,gpu,gpus,fits,need_bytes,hours,usd,tokens_per_second")
    assert len(lines) == 9


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("plan tune --gpus 8..1", "--gpus 8..1"),
        ("plan tune --gpu nosuch", "unknown GPU"),
        ("plan tune --method nosuch --gpu h100-sxm --gpus 1", "unknown --method"),
        ("plan tune --model symbolic", "--model symbolic"),
        ("plan tune --gpus x", "--gpus"),
        ("plan train --global-batch 0", "--global-batch"),
        ("plan nosuch", "nosuch"),
    ],
)
def test_bad_input_is_one_line(llmcalc, line, says):
    ran = llmcalc(line)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert says in ran.err


def test_counts():
    assert counts("8") == [8]
    assert counts("1,2,8") == [1, 2, 8]
    assert counts("3..20") == [3, 4, 8, 16, 20]
    assert counts("64..512") == [64, 128, 256, 512]
