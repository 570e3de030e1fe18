"""Every format has the same rows, with a derivation and without: each label beside its value, each cell of a table."""

from __future__ import annotations

import html
import re
import shlex
from unicodedata import normalize

import pytest

from estimator.cli import COMMANDS
from estimator.render import FORMATS, to_text
from estimator.render.cells import shown
from estimator.render.latex_text import with_formulas
from estimator.report import Node, Report, Table
from tests.properties.asked import report
from tests.properties.test_any_report import plain

LINES = (
    "memory llama-3-8b --mode training --method lora --gpu rtx-4090",
    "memory llama-3-8b --gpu rtx-4090 --seq-len 8k",
    "memory --model symbolic --mode training --recipe zero-paper",
    "peft llama-3-8b --method lora --rank 8",
    "peft --model symbolic --method lora --rank r",
    "peft --model symbolic --method vera --rank r",
    "peft gpt2 --method all",
    "peft --complexity",
    "zero llama-3-8b --gpus 8",
    "zero llama-3-8b --gpus 8 --stage 3 --offload all --recipe deepspeed",
    "zero --model symbolic --gpus N --recipe zero-paper --stage 2",
    "kvcache llama-3-8b --gpu rtx-4090",
    "kvcache --model symbolic --seq-len n",
    "kvcache deepseek-v3",
    "flops llama-3-8b --mode training",
    "flops --model symbolic",
    "train llama-3-8b --tokens 1B",
    "plan tune llama-3-8b --method lora --examples 1000 --gpu h100-sxm --top 2",
    "infer llama-3-8b --gpu h100-sxm",
    "chinchilla --compute 1e21",
    "fermi",
    "decode beam --width 4 --vocab 32000 --length 20",
    "decode speculative --alpha 0.8 --gamma 4 --cost 0.1",
    "decode tree --heads '2 3; 4 5; 6 7'",
    "compress prune --channels 0.3",
    "compress quantize --bits 4 --block 64",
    "models llama-3-8b",
    "gpus h100-sxm",
    "explain lora",
)
OTHER = {"sweep", "completion", "man", "validate", "docs"}  # a table of a file's or of other commands' numbers; texts
DERIVE = {line.split()[0] for line in LINES} - {"models", "gpus", "explain", "plan"}
ADDED = re.compile(
    r"\\(?:allowbreak\{\}|raggedright|hspace\*\{\d+em\}|rule\[[^]]*\]\{0pt\}\{[\d.]+ex\}|tabularnewline|[a-z]+rule)"
    r"|\$|&nbsp;|<br>|<[^>]*>"
)


def bare(text: str) -> str:
    """A text without what a format adds to it: letters and digits alone."""
    text = ADDED.sub("", plain(text))
    return re.sub(r"[^a-z0-9]", "", normalize("NFKC", html.unescape(text)).lower())


def tables(text: str, name: str) -> str:
    """What a format has before its derivation."""
    if name == "latex":
        return "".join(re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.S))
    return re.split(r"\n(?:Derivation\n|### Derivation)|<h\d[^>]*>Derivation", text)[0]


def label_of(n: Node, name: str) -> str:
    """A row's label as a format has it; a terminal may wrap it after its first words."""
    if name == "table":
        return " ".join(n.label.split()[:2])
    return with_formulas(n.label + n.note) if name == "latex" else n.label + n.note


def missing(made: Report, name: str, derive: bool) -> list[str]:
    """Labels that stand in fewer rows of a format than the report has rows of that name."""
    text = to_text(made, name, derive, **({"detail": True} if name == "table" else {}))
    found = bare(tables(text, name))
    wanted: dict[str, int] = {}
    for part in made.body:
        if isinstance(part, Node):
            for n in part.walk():
                if n.label:
                    numbers = not made.symbolic and name in ("latex", "markdown") and not (derive and name == "latex")
                    row = bare(label_of(n, name))
                    row += bare(shown(n, made, {})) if numbers and n.value is not None else ""
                    wanted[row] = wanted.get(row, 0) + 1
        elif isinstance(part, Table) and not (part.latex and name == "latex"):
            for row in part.rows:
                if isinstance(row[0], str) and name != "table":
                    wanted[bare(row[0])] = wanted.get(bare(row[0]), 0) + 1
    return [label for label, times in wanted.items() if found.count(label) < times]


def test_every_command_is_asked():
    assert {line.split()[0] for line in LINES} | OTHER == set(COMMANDS)


@pytest.mark.parametrize("line", LINES)
def test_every_format_has_every_row(line):
    for derive in (False, True) if line.split()[0] in DERIVE else (False,):
        made = report([*shlex.split(line), *(["--derive"] if derive else [])])
        assert made is not None
        for name in FORMATS:
            if name not in ("json", "csv", "latex-document"):
                assert missing(made, name, derive) == [], (name, derive)


def test_alike_rows_and_numbers_that_are_worked_out_stand_in_latex_too(llmcalc):
    text = llmcalc("peft --model symbolic --method lora --rank r --derive --format latex").out
    table = text[: text.index("\\end{tabular}")]
    for label in ("q\\_\\allowbreak{}proj", "v\\_\\allowbreak{}proj"):
        assert f"\\hspace*{{1em}}{label} & $2\\,L\\,d\\,r$ parameters" in table
    assert "Share of all parameters & $\\frac{100\\,r}{3\\,d + r}$ percent" in table
    text = llmcalc("flops --model symbolic --derive --format latex").out
    table = text[: text.index("\\end{tabular}")]
    assert "attention projections & $16{,}384\\,L\\,d^{2}$ FLOPs" in table
    assert "Backward (none without training) & 0 FLOP" in table


def test_a_count_is_exact_where_nothing_below_says_so(llmcalc):
    text = llmcalc("peft llama-3-8b --method vera --derive --format latex").out
    assert "139,264 =\\allowbreak{} 139.3 K" in text  # q_proj's, which no working has
    assert "Trained parameters & 180.2 K" in text
