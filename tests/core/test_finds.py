"""Every find of an attack on the program (W wrong numbers, C crashes, H hangs, S security, K contract) and its test."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = "core/test_finds.py::"
ATTACKS, STREAMS, AGREE = "core/test_attacks.py::", "core/test_streams.py::", "properties/test_agreement.py::"

# find -> (what it was, the tests that hold it); docs/reliability.md prints it
FINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "W1": ("DDP's gradient buckets too small where layers alternate", (
        "memory/test_sharded_states.py::test_buckets_hold_a_copy_of_every_gradient",)),
    "W2": ("suggested changes that were false when run", (
        "memory/test_changes.py::test_every_row_is_what_its_command_prints",
        AGREE + "test_every_suggestion_is_what_its_command_prints")),
    "W3": ("negative buffers in the breakdown of the peak", (
        "memory/test_breakdown.py::test_no_buffer_is_negative",
        AGREE + "test_the_step_holds_the_same_however_it_was_reached")),
    "W4": ("stand-in sizes in answers in letters", (
        ATTACKS + "test_no_stand_in_reaches_an_answer_in_letters", AGREE + "test_letters_are_numbers_elsewhere",
        "memory/test_sharded_states.py::test_whole_tensors_have_no_form_in_letters")),
    "W5": ("ZeRO stage 1 showed rank 0, not the fullest", (
        "memory/test_sharded_states.py::test_stage_1_shows_the_fullest_rank", AGREE + "test_shards_and_wholes")),
    "W6": ("--check-fit ignored with --recipe all", (HERE + "test_check_fit_of_all_recipes",)),
    "W7": ("T5's head in gradients and states, not in weights", (HERE + "test_a_tied_head_is_counted_once",)),
    "W8": ("kvcache's longest context of encoder-decoders", (HERE + "test_the_longest_context_of_an_encoder_decoder",)),
    "W9": ("zero --recipe deepspeed added another number than it printed", (
        "memory/test_sharded_states.py::test_deepspeed_adds_what_it_prints",)),
    "W10": ("fractions in CSV", (STREAMS + "test_csv_holds_decimals",)),
    "W11": ("train --examples --epochs truncated", (HERE + "test_steps_of_an_epoch_are_rounded_up",)),
    "W12": ("rank correlation with ties", (HERE + "test_rank_correlation_with_ties",)),
    "W13": ("low below ideal", (HERE + "test_nothing_is_faster_than_the_ideal", "properties/test_any_report.py::"
                                "test_any_report")),
    "C1": ("any encoding but UTF-8", (STREAMS + "test_any_encoding",)),
    "C2": ("decode beam beyond floats", (STREAMS + "test_numbers_beyond_floats", HERE + "test_searches_of_any_size")),
    "C3": ("full disk, closed streams", (STREAMS + "test_a_full_disk_is_one_line",
                                         ATTACKS + "test_help_into_a_full_disk_or_a_closed_pipe")),
    "C4": ("broken pipe", (STREAMS + "test_a_reader_that_goes_away_is_no_error",)),
    "C5": ("files of measurements of any shape", (ATTACKS + "test_files_of_measurements_say_what_is_wrong",)),
    "C6": ("GGUF headers that lack keys or shapes", ("headers/test_gguf.py::test_damage_is_one_line",)),
    "C7": ("headers without tensors, an index without shards", (HERE + "test_a_header_without_tensors",)),
    "C8": ("scenarios beyond floats", (ATTACKS + "test_a_spread_beyond_floats",
                                       ATTACKS + "test_whole_numbers_of_any_base_are_bounded")),
    "C9": ("fits of equal losses", (HERE + "test_a_fit_of_equal_losses",)),
    "C10": ("a home folder of nobody, sizes of 400 digits", (HERE + "test_paths_and_sizes_that_are_none",)),
    "C11": ("derivations in threads", (ATTACKS + "test_threads_derive_as_one_does",)),
    "H1": ("derivations of ordinary formulas", (ATTACKS + "test_derivations_of_any_formula_end_soon",
                                                HERE + "test_searches_of_any_size")),
    "H2": ("validate of devices and bombs", (HERE + "test_validate_reads_files_only",)),
    "H3": ("regular expressions that explode", (ATTACKS + "test_patterns_end",
                                                ATTACKS + "test_long_lines_of_a_file_end")),
    "H4": ("trees of many tokens", (HERE + "test_trees_of_many_tokens",)),
    "H5": ("counts that are looped over", (HERE + "test_counts_are_counted",
                                           ATTACKS + "test_a_stack_has_a_bounded_height")),
    "H6": ("long headers", (ATTACKS + "test_headers_are_bounded_and_end_with_their_tensors",
                            "headers/test_gguf.py::test_long_arrays_are_skipped")),
    "H7": ("a pipe as output, a terminal of any width", (ATTACKS + "test_a_terminal_of_any_width",)),
    "S1": ("control sequences", (STREAMS + "test_control_characters_of_a_file_are_shown",
                                 HERE + "test_an_activation_with_controls")),
    "S2": ("--output replaced links, modes, owners", (STREAMS + "test_output_follows_links_and_keeps_modes",
                                                      STREAMS + "test_a_dash_is_standard_output")),
    "S3": ("formulas in CSV, HTML in Markdown", (ATTACKS + "test_texts_of_a_file_are_no_markdown_and_no_lines",)),
    "S4": ("duplicate tensors, trailing bytes", ("headers/test_safetensors.py::test_damage_is_one_line",
                                                 ATTACKS + "test_headers_are_bounded_and_end_with_their_tensors")),
    "K1": ("expressions read with SymPy's own names", (
        ATTACKS + "test_expressions_are_read_with_the_letters_that_the_report_names",)),
    "K2": ("one letter for two things", (ATTACKS + "test_one_letter_is_one_number",)),
    "K3": ("a fit of exact data called undetermined", (ATTACKS + "test_a_fit_of_exact_data_is_determined",)),
    "K4": ("a byte order mark in a scenario", (ATTACKS + "test_a_scenario_may_begin_with_a_byte_order_mark",)),
    "K5": ("GGUF without keys took a class's defaults", (HERE + "test_a_file_without_keys_has_no_sizes",)),
    "K6": ("long error lines, odd numbers", (STREAMS + "test_a_long_error_is_cut", HERE + "test_odd_numbers",
                                             ATTACKS + "test_sizes_are_read_as_people_write_them")),
}  # fmt: skip
NUMBERS = {"W": 13, "C": 11, "H": 7, "S": 4, "K": 6}


def test_every_find_has_its_test():
    assert list(FINDS) == [f"{letter}{i}" for letter, n in NUMBERS.items() for i in range(1, n + 1)]
    files = {name.partition("::")[0] for _, tests in FINDS.values() for name in tests}
    trees = {file: ast.parse((ROOT / "tests" / file).read_text()) for file in files}
    there = {f"{f}::{n.name}" for f, tree in trees.items() for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    assert [(find, name) for find, (_, tests) in FINDS.items() for name in tests if name not in there] == []


def test_check_fit_of_all_recipes(llmcalc):
    assert llmcalc("memory --recipe all --gpu t4 --check-fit --model llama-3-70b").code == 3


@pytest.mark.parametrize("model", ["flan-t5-small", "flan-t5-xxl"])
def test_a_tied_head_is_counted_once(llmcalc, model):
    found = llmcalc(f"memory --mode training --model {model} --recipe torch-fp32 --seq-len 64 --format json").results
    assert found["weights_bytes"] == found["gradients_bytes"]
    assert found["weights_bytes"] <= found["moments.load_bytes"]
    other = llmcalc(f"zero --model {model} --gpus 1 --recipe torch-fp32 --format json").results
    assert other["stage0.weights_bytes"] == found["weights_bytes"]


def test_the_longest_context_of_an_encoder_decoder(llmcalc):
    line = "kvcache --model flan-t5-xl --gpu h100-sxm --workspace none --format json --seq-len"
    most = llmcalc(f"{line} 128").results["max_tokens"]
    here, there = (llmcalc(f"{line} {most + n}").results for n in (0, 1))
    assert here["kv_cache_bytes"] <= here["free_bytes"] < there["kv_cache_bytes"]


def test_steps_of_an_epoch_are_rounded_up(llmcalc):
    for examples, epochs, steps in ((3, 0.3, 1), (100, 0.29, 29), (100, 0.285, 29)):
        line = f"train --model gpt2 --examples {examples} --epochs {epochs} --format json"
        assert llmcalc(line).results["steps"] == steps


def test_rank_correlation_with_ties():
    import numpy as np
    from scipy.stats import spearmanr

    from estimator.fermi.engine import _correlation, _ranks

    x = np.random.default_rng(1).random(2000)
    y = np.maximum(x, 0.9)
    for a, b in ((x, y), (x.tolist(), y.tolist())):
        assert _correlation(_ranks(a), _ranks(b)) == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)


def test_nothing_is_faster_than_the_ideal(llmcalc):
    for line in ("llama-3-8b --quantization nf4 --batch-size 8", "bloom-1b7 --batch-size 64 --seq-len 8192",
                 "pythia-14m --engine sglang --pipeline-parallel 3 --data-parallel 4096"):  # fmt: skip
        found = llmcalc(f"infer --model {line} --format json").results
        for key, ideal in found.items():
            name = key.removesuffix(".ideal")
            if name != key and f"{name}.low" in found:
                ends = (found[f"{name}.low"], found[f"{name}.high"])
                assert (ends[1] <= ideal) if name == "tokens_per_second" else (ideal <= ends[0]), (line, name)
    alone = llmcalc("infer --model pythia-14m --engine sglang --format json").results["tokens_per_second"]
    assert found["tokens_per_second"] == alone  # one request keeps one of 4,096 replicas busy


def test_searches_of_any_size(llmcalc):
    for line in ("--length 66", "--vocab 2 --width 1e30 --length 1e40", "--vocab 2 --width 1e20 --length 70"):
        assert llmcalc(f"decode beam {line}").code == 0


def test_a_header_without_tensors(llmcalc, tmp_path):
    path = tmp_path / "empty.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    folder = tmp_path / "folder"
    folder.mkdir()
    index = {"metadata": {"total_size": 8}, "weight_map": {"a.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for found in (path, folder):
        ran = llmcalc(f"models {found}")
        assert (ran.code, ran.err.count("error: "), "internal" in ran.err) == (2, 1, False)


def test_a_fit_of_equal_losses(llmcalc, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("params,tokens,loss\n" + "".join(f"{10**i},{10 ** (i + 2)},2.5\n" for i in range(6, 14)))
    ran = llmcalc(f"chinchilla fit {path} --bootstrap 0")
    assert (ran.code in (0, 2), "internal" in ran.err) == (True, False)


def test_paths_and_sizes_that_are_none(llmcalc):
    for line in ("kvcache --model ~nosuch/x.json", f"compress quantize --scale-bits {'9' * 400}"):
        ran = llmcalc(line)
        assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_validate_reads_files_only(llmcalc, tmp_path):
    import gzip

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b" " * 300_000_000, 1))
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path / "bomb.json.gz"):
        assert llmcalc(f"validate {path}").code == 2


def test_trees_of_many_tokens(llmcalc):
    heads = ";".join(["1 2 3 4 5 6 7 8 9"] * 4)
    chain = " ".join(map(str, range(9999)))
    for line in (["--heads", heads], ["--sequences", chain]):
        assert llmcalc("decode", "tree", *line, "--format", "json").code in (0, 2)


def test_counts_are_counted(llmcalc):
    for line in ("memory --mode training --gpus 1e9 --stage 1", "zero --gpus 1e9 --recipe torch-mixed",
                 "train --gpus 1e9"):  # fmt: skip
        assert llmcalc(f"{line} --model gpt2").code == 0


def test_an_activation_with_controls(llmcalc, tmp_path):
    path = tmp_path / "config.json"
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    path.write_text(json.dumps({"model_type": "llama", "vocab_size": 100, "hidden_act": "\x1b[31mX", **sizes}))
    ran = llmcalc(f"memory --mode training --model {path}")
    assert "\x1b" not in ran.out + ran.err


def test_a_file_without_keys_has_no_sizes(llmcalc, tmp_path):
    from tests.headers import make

    path = tmp_path / "m.gguf"
    make.gguf(path, {"general.architecture": "llama"}, {"token_embd.weight": (1, (100, 64), 12800)})
    for line in ("memory", "kvcache", "flops"):
        ran = llmcalc(f"{line} --model {path}")
        assert (ran.code, "embedding_length" in ran.err or "holds tensors but no architecture" in ran.err) == (2, True)


def test_odd_numbers(llmcalc):
    assert llmcalc("flops --seconds inf --model gpt2 --gpu h100-sxm").code == 2
    for text in ("1,,,0", "1_0_", "\u0967\u0968"):
        assert llmcalc("flops", "--model", "gpt2", "--seq-len", text).code == 2


AUDITED = """
import os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def heard(event, args):
    if event.startswith("socket.") or (event == "open" and isinstance(args[0], str) and args[2] & WRITING):
        if args and not str(args[0]).startswith(("/dev/null", "/proc/")) and "__pycache__" not in str(args[0]):
            os.write(2, f"HEARD {event} {args}".encode())
sys.addaudithook(heard)
from estimator.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("line", [
    "memory --model llama-3-8b --gpu h100-sxm", "kvcache llama-3-8b", "infer --model gpt2", "train --model gpt2",
    "zero --params 7e9 --gpus 8", "chinchilla --compute 1e21", "fermi brain", "models", "gpus", "peft --derive",
])  # fmt: skip
def test_no_socket_and_no_file(line, tmp_path):
    """A process of its own, whatever is imported: the interpreter's audit events of sockets and of files written."""
    ran = subprocess.run(
        [sys.executable, "-c", AUDITED, *line.split()], cwd=tmp_path, check=False, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert (ran.returncode, "HEARD" in ran.stderr) == (0, False), ran.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm", "sglang", "tensorrt-llm", "tgi"])
@pytest.mark.parametrize("command", ["memory", "kvcache", "infer"])
def test_every_engine_derives(llmcalc, command, engine):
    """infer --engine llama.cpp --derive ended with exit 70: a range in words of a recorded number."""
    ran = llmcalc(f"{command} --engine {engine} --gpu h100-sxm --derive")
    assert ran.code == 0
    assert "Derivation" in ran.out
    assert "no formula is traced" not in " ".join(ran.out.split())
