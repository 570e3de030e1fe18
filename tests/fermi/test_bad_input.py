"""Bad scenario files and options: exit 2, one line, bounded time."""

from __future__ import annotations

import time

import pytest

FILES = {
    "cycle": ('[quantities]\na = "= b"\nb = "= c"\nc = "= a"', "circle"),
    "unknown name": ('[quantities]\nparams = 1\nb = "= parms * 2"', "Did you mean 'params'"),
    "mixed units": ('[quantities]\na = "1 GB"\nb = "2 USD"\nc = "= a + b"', "bytes (a) to USD (b)"),
    "division by zero": ('[quantities]\na = 0\nb = "= 1 / a"', "division by zero"),
    "upside down": ('[quantities]\na = "between 250 and 50"', "upside down"),
    "attribute": ('[quantities]\na = 1\nb = "= a.__class__"', "not allowed"),
    "call": ('[quantities]\na = "= __import__(1)"', "unknown function"),
    "string": ("[quantities]\na = \"= 'x'\"", "not allowed"),
    "tower": ('[quantities]\na = "= 9**9**9**9"', "exponent"),
    "squares": ("[quantities]\na0 = 1e30\n" + "\n".join(f'a{i + 1} = "= a{i} * a{i}"' for i in range(200)), "beyond"),
    "digits": (f"[quantities]\na = {'9' * 10_000}", "digits"),
    "fraction digits": (f"[quantities]\na = {'9' * 10_000}.5", "characters"),
    "text digits": (f'[quantities]\na = "{"9" * 10_000}"', "characters"),
    "formula digits": (f'[quantities]\na = "= {"9" * 900}"', "characters"),
    "nested": ("a = " + "[" * 100_000, "nested"),
    "large": ("#" * 5_000_000, "at most"),
    "many": ("[quantities]\n" + "\n".join(f"a{i} = 1" for i in range(400)), "at most"),
    "empty": ("", "no [quantities]"),
    "key": ("[quantities]\na = {valu = 1}", "Did you mean 'value'"),
    "nan": ("[quantities]\na = nan", "not a number"),
    "range and formula": ('[quantities]\na = {formula = "1", value = 2}', "needs a value"),
    "outside": ('[quantities]\na = {value = 9, range = "between 1 and 2"}', "outside"),
    "reserved": ("[quantities]\nmax = 1", "cannot name"),
    "answers": ('answers = ["b"]\n[quantities]\na = 1', "unknown quantity"),
    "no columns": ("[[tables]]\nrows = [[]]\n[quantities]\na = 1", "a table needs columns"),
    "no table at all": ("[[tables]]\n[quantities]\na = 1", "a table needs columns"),
    "negative log-normal": ('[quantities]\na = {range = "between -1 and 2", distribution = "lognormal"}', "positive"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name, llmcalc, tmp_path):
    text, words = FILES[name]
    path = tmp_path / "x.toml"
    path.write_text(text)
    start = time.perf_counter()
    ran = llmcalc("fermi", str(path))
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert words in ran.err, ran.err
    assert time.perf_counter() - start < 2


def test_bytes_that_are_no_text(llmcalc, tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert llmcalc("fermi", str(path)).code == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("gpt7", "Did you mean 'gpt6'"),
        ("nothing.toml", "no such file"),
        ("gpt6 --set nothing=1", "unknown quantity"),
        ("gpt6 --set rent", "NAME=VALUE"),
        ("gpt6 --set rent=3GB", "measures bytes"),
        ("gpt6 --samples 1", "--samples"),
        ("gpt6 --samples 9999999999", "--samples"),
        ("gpt6 --target gpus", "no range reaches it"),
        ("gpt6 --target nothing", "unknown quantity"),
        ("gpt6 --only nothing", "unknown quantity"),
        ("gpt6 --gpu nothing", "unknown GPU"),
        ("deepseek-v3-cost --gpu h200", "refers to no GPU preset"),
        ("gpt6 extra", "unexpected argument"),
        ("gpt6 --format xml", "--format"),
    ],
)
def test_options(argv, words, llmcalc):
    ran = llmcalc("fermi " + argv)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert words in ran.err
