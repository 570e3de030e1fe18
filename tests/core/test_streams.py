"""What comes out: any encoding, full and closed streams, control characters of files, files written whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from estimator.render.plots_terminal import _SHADES
from estimator.render.streams import escaped, fitting, write_file

COMMANDS = [
    "peft --method lora --rank 8", "memory", "kvcache", "zero", "flops", "train", "infer", "gpus", "models",
    "chinchilla --compute 1e21", "fermi", "decode beam", "explain lora", "compress prune --channels 0.3",
]  # fmt: skip


def run(line: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])} | more.pop("env", {})
    argv = [sys.executable, "-m", "estimator", *line.split()]
    return subprocess.run(argv, env=env, timeout=60, check=False, **{"capture_output": True} | more)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
@pytest.mark.parametrize("line", COMMANDS[:3])
def test_any_encoding(line, encoding):
    ran = run(line, env={"PYTHONIOENCODING": encoding})
    assert (ran.returncode, b"internal" in ran.stderr) == (0, False)
    assert ran.stdout.decode(encoding)


@pytest.mark.parametrize(
    "line",
    [
        "memory --mode training --gpu h100 --plot", "memory --mode training --method all --plot", "infer --plot",
        "kvcache --gpu h100 --plot", "zero --gpus 8 --plot", "chinchilla --compute 1e21 --plot", "fermi gpt3-cost",
        "plan tune --model gpt2 --examples 1k --seq-len 512 --gpu h100,rtx-4090 --plot",
    ],
)  # fmt: skip
def test_plots_in_ascii(llmcalc, line):
    """Nothing that is drawn becomes a question mark, and what differs stays different."""
    drawn = llmcalc(line).out
    assert fitting(drawn, "ascii").count("?") == drawn.count("?")


def test_drawings_in_ascii():
    assert len(set(fitting(_SHADES, "ascii"))) == len(_SHADES)
    assert fitting("5x10⁻²", "ascii") == "5x10^-2"
    assert fitting("██▌ 25% ─── ≈", "ascii") == "##= 25% --- ~"
    assert fitting("██▌", "utf-8") == fitting("██▌", None) == "██▌"
    assert fitting("é漢", "cp1252") == "é?"


@pytest.mark.parametrize("line", ["peft --method lora --rank 8", "--version", "--help"])
def test_a_full_disk_is_one_line(line):
    if not Path("/dev/full").exists():  # a device of Linux
        return
    with Path("/dev/full").open("wb") as full:
        ran = run(line, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ran.returncode == 2
    assert ran.stderr.count(b"\n") <= 1
    assert b"Traceback" not in ran.stderr


def test_a_reader_that_goes_away_is_no_error():
    read, end = os.pipe()
    os.close(read)
    ran = run("models --format json", capture_output=False, stdout=end, stderr=subprocess.PIPE)
    os.close(end)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_swapped_letters_come_first(llmcalc):
    assert "Did you mean 'lora' or" in llmcalc("memory --method lroa").err


def test_a_long_error_is_cut(llmcalc):
    ran = llmcalc(f"memory --quantization {'x' * 5000}")
    assert ran.code == 2
    assert len(ran.err.rstrip("\n")) <= 300


def test_control_characters_of_a_file_are_shown(llmcalc, tmp_path):
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        'title = "\\u001b]0;pwned\\u0007"\nanswers = ["y"]\n[quantities]\nx = { value = 2, label = "a\\u001b[31mb" }\n'
        'z = { value = 3, source = "\\u001b[31m" }\ny = { formula = "x * z" }\n'
    )
    for options in ("", "--derive", "--format markdown --derive", "--format latex --derive", "--format html --derive"):
        ran = llmcalc(f"fermi {scenario} {options}")
        assert ran.code == 0
        assert "\x1b" not in ran.out + ran.err
    assert escaped("a\x1b[31m\nb\x07") == "a\\x1b[31m\\nb\\x07"


def test_output_follows_links_and_keeps_modes(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_file(str(link), "new")
    assert (link.is_symlink(), target.read_text(), target.stat().st_mode & 0o777) == (True, "new", 0o640)
    other = tmp_path / "hard.txt"
    other.hardlink_to(target)
    write_file(str(target), "newer")
    assert other.read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hard.txt", "link.txt", "target.txt"]


def test_a_dash_is_standard_output(llmcalc):
    assert llmcalc("peft --rank 8 --output -").out == llmcalc("peft --rank 8").out
    assert not Path("-").exists()


def test_a_picture_is_a_picture_or_refused(llmcalc, tmp_path):
    for line in ("infer", "kvcache"):
        ran = llmcalc(f"{line} --output {tmp_path}/{line}.png")
        assert (ran.code, (tmp_path / f"{line}.png").read_bytes()[:4]) == (0, b"\x89PNG")
    ran = llmcalc(f"peft --output {tmp_path}/peft.png")
    assert (ran.code, (tmp_path / "peft.png").exists()) == (2, False)


def test_numbers_beyond_floats(llmcalc):
    assert llmcalc("decode beam --width 4 --vocab 32000 --length 128").code == 0
    assert llmcalc("decode beam --vocab 2 --width 1e20 --length 70").code == 0
    ran = llmcalc("decode beam --vocab 2 --width 1e30 --length 1e9")
    assert ran.code == 0


def test_csv_holds_decimals(llmcalc):
    out = llmcalc("compress linear --rmin -2.12 --rmax 2.08 --bits 2 --format csv").out
    assert "scale,1.4," in out
    assert "7/5" not in out


def test_symbolic_values_carry_their_unit(llmcalc):
    out = llmcalc("peft --model symbolic --method lora --rank R --targets q_proj,k_proj,v_proj --dtype fp16").out
    assert "12*L*d*R bytes" in out
    assert "6*L*d*R parameters" in out


def test_no_raw_keys_in_a_table(llmcalc):
    out = llmcalc("memory --mode training --model llama-3-8b --gpu h100-sxm").out
    assert "peak.moment" not in out
    assert "stage0.fits" not in llmcalc("zero --gpu h100-sxm").out


def test_a_terminal_says_a_guess_once():
    """Both streams end there: what the table shows as assumed is no note beside it. A pipe keeps the note."""
    import pty

    main, end = pty.openpty()
    run("train gpt2 --steps 1", capture_output=False, stdout=end, stderr=end)
    os.close(end)
    said = os.read(main, 1 << 16)
    os.close(main)
    assert said.count(b"--seq-len not given") == 1
    assert run("train gpt2 --steps 1").stderr.count(b"--seq-len not given") == 1
