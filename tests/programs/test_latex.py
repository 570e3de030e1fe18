"""Every documented example as LaTeX, compiled by a real one: no error, and nothing runs out of the page."""

from __future__ import annotations

import re
import subprocess

import pytest

from estimator.peft import METHODS
from tests.exact.test_homework import HOMEWORK
from tests.programs import documented, printed, program

pytestmark = pytest.mark.programs
HEAD = (
    "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage[margin=2.5cm]{geometry}\n"
    "\\usepackage{amsmath,booktabs,graphicx}\n\\begin{document}\n"
)


def compiled(text: str, folder) -> str:
    """pdflatex's log of a document."""
    latex = program("pdflatex", "texlive-latex-recommended")
    (folder / "page.tex").write_text(text, encoding="utf-8")
    flags = ["-interaction=nonstopmode", "-halt-on-error"]
    ran = subprocess.run([latex, *flags, "page.tex"], cwd=folder, capture_output=True, check=False, timeout=300)
    log = ran.stdout.decode("latin-1")
    assert ran.returncode == 0, [line for line in log.split("\n") if line.startswith("!")]
    return log


def test_every_documented_example_compiles_and_fits(tmp_path):
    made = [(words, text) for words in documented() if (text := printed(words, "latex"))]
    assert len(made) > 90
    pages = "\n".join(f"\\typeout{{@@{i}}}\n{text}\n\\clearpage" for i, (_, text) in enumerate(made))
    at, wide = 0, []
    for line in compiled(f"{HEAD}{pages}\n\\end{{document}}\n", tmp_path).split("\n"):
        if found := re.match(r".*@@(\d+)", line):
            at = int(found.group(1))
        over = re.search(r"Overfull \\hbox \(([\d.]+)pt", line)
        if over and float(over.group(1)) > 2:
            wide.append((made[at][0], over.group(1)))
    assert wide == []


@pytest.mark.parametrize("command", [
    "peft --model symbolic --method lora --rank R --targets q_proj,k_proj,v_proj --dtype fp16 --derive",
    "decode tree --heads '2 3; 4 5; 6 7' --derive",
    "decode tree --heads '2 3; 4 5; 6 7; 8 9; 10 11'",
    "chinchilla --compute 1e21 --derive",
    "memory llama-3-8b --mode training --derive",
    "peft --complexity --derive",
])  # fmt: skip
def test_a_standalone_document_compiles_as_it_is(llmcalc, tmp_path, command):
    ran = llmcalc(f"{command} --standalone")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("\\documentclass")
    over = re.findall(r"Overfull \\hbox \(([\d.]+)pt", compiled(ran.out, tmp_path))
    assert [x for x in over if float(x) > 2] == []


def test_powers_are_mathematics_and_no_column_is_empty(llmcalc):
    text = llmcalc("chinchilla --compute 1e21 --format latex").out
    assert "$N_{\\mathrm{opt}}\\,=\\,G\\,(C/C_{0})^{a}$" in text
    assert "**" not in text
    letters = llmcalc("kvcache --model symbolic --seq-len n --derive --format latex").out
    assert "Letters: $L$ layers; " in letters


def pages(log: str) -> int:
    """Pages of a compiled document, in which nothing runs out of the text."""
    assert [x for x in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(x) > 2] == []
    return int(re.search(r"\((\d+) pages?", log)[1])


def by_command() -> dict[str, set[str]]:
    """The homework's command lines and the questions that each answers."""
    found: dict[str, set[str]] = {}
    for question in HOMEWORK:
        for a in question["answers"]:
            found.setdefault(a["command"], set()).add(question["id"])
    return found


@pytest.mark.parametrize(("command", "questions"), by_command().items())
def test_a_homework_question_takes_a_page(llmcalc, tmp_path, command, questions):
    """As it is asked, without keys: no more pages than the questions that a command answers, mostly one."""
    ran = llmcalc(f"{command} --derive --standalone")
    assert ran.code == 0, ran.err
    assert pages(compiled(ran.out, tmp_path)) <= (1 if len(questions) == 1 else 3 if len(questions) > 2 else 2)


LONG = ("osf",)  # its tensors alone, three a matrix and five kinds of matrices, fill a page


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_a_page(llmcalc, tmp_path, method):
    """In numbers, and in letters where it has a form in them."""
    for model in ("llama-3-8b", "symbolic"):
        ran = llmcalc(f"peft --model {model} --method {method} --derive --standalone")
        if model == "symbolic" and ran.code == 2:
            assert "no form in letters" in ran.err or "no token table" in ran.err
            continue
        assert ran.code == 0, ran.err
        assert pages(compiled(ran.out, tmp_path)) == (2 if method in LONG and model != "symbolic" else 1)
