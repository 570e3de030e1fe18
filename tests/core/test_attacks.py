"""What broke under attack, kind by kind: wrong letters, crashes, hangs, text that is acted on. One test a kind."""

from __future__ import annotations

import copy
import gzip
import json
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from estimator import api
from estimator.errors import InputError
from estimator.models import load_model
from estimator.patterns import takes
from estimator.trace import forget

ROOT = Path(__file__).parents[2]


# wrong numbers


@pytest.mark.parametrize("method", ["lokr", "supertuning", "shadow", "frod"])
def test_no_stand_in_reaches_an_answer_in_letters(llmcalc, method):
    """lokr printed 256*L*(r + 32): the divisors of the hidden width that stood for d."""
    ran = llmcalc(f"peft --model symbolic --method {method}")
    assert (ran.code, "no form in letters" in ran.err) == (2, True)


def test_letters_of_osf_and_of_a_matrix(llmcalc):
    found = llmcalc("peft --model symbolic --method osf --rank R --format json").results
    assert found["trainable_params"] == "2*L*(d - R)*(2*d + 1)"
    for reduction in ("1", "15", "0.2"):
        ran = llmcalc(f"peft --matrix mxn --reduction {reduction} --format json")
        assert ran.results["rank"].startswith("floor(")


def test_one_letter_is_one_number(llmcalc):
    """``--seq-len n --batch-size n`` gave 4*L*n*n_2*d."""
    found = llmcalc("kvcache --model symbolic --seq-len n --batch-size n --format json").results
    assert found["kv_cache_bytes"] == "4*L*n**2*d"
    assert llmcalc("zero --params N --gpus N --format json").results["stage3.memory_bytes"] == "16"
    ran = llmcalc("kvcache --model symbolic --seq-len L")
    assert (ran.code, "stands for layers" in ran.err) == (2, True)


def test_recipes_are_of_training(llmcalc):
    assert llmcalc("memory --mode inference --recipe all").code == 2


def test_a_fit_of_exact_data_is_determined(tmp_path, llmcalc):
    """Descents that end where residuals are rounding ended at the same optimum."""
    rows = [f"{n:g},{d:g},{1.69 + 406.4 / n**0.34 + 410.7 / d**0.28!r}"
            for n in (1e8, 2e8, 3e8, 4e8, 5e8) for d in (1e9, 2e9, 3e9, 4e9, 5e9)]  # fmt: skip
    path = tmp_path / "exact.csv"
    path.write_text("params,tokens,loss\n" + "\n".join(rows))
    ran = llmcalc(f"chinchilla fit {path} --bootstrap 0 --format json")
    assert ran.results["starts_agreed"] > 3
    assert not any("hardly" in line for line in ran.json["assumptions"])


@pytest.mark.parametrize("text", ["1,,,0", "1_0_", "10,00", "१२", "1__0", "_1"])
def test_sizes_are_read_as_people_write_them(llmcalc, text):
    assert llmcalc("kvcache", "--seq-len", text).code == 2


def test_threads_derive_as_one_does():
    """Letters were shared by all threads: L became L_2, and the derivation differed from the table."""
    names = ["llama-3-8b", "gpt2", "mixtral-8x7b", "gemma-3-1b"]

    def derived(name: str) -> str:
        forget()
        return api.to_text(api.kvcache(load_model(name, traced=True), seq_len=777), "json", derive=True)

    alone = {name: derived(name) for name in names}
    with ThreadPoolExecutor(8) as pool:
        for name, got in zip(names * 8, pool.map(derived, names * 8), strict=True):
            assert got == alone[name]
    shared = load_model("llama-3-8b", traced=True)  # loaded here, derived there
    with ThreadPoolExecutor(8) as pool:
        got = set(pool.map(lambda n: api.to_text(api.kvcache(shared, seq_len=n), "json", derive=True), [777] * 8))
        assert got == {alone["llama-3-8b"]}


# crashes


@pytest.mark.parametrize("line", ["peft --help", "chinchilla --help"])
def test_help_into_a_full_disk_or_a_closed_pipe(line):
    argv = [sys.executable, "-m", "estimator", *line.split()]
    if Path("/dev/full").exists():
        with Path("/dev/full").open("wb") as full:
            ran = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False)
        assert (ran.returncode, ran.stderr.count(b"\n"), b"internal" in ran.stderr) == (2, 1, False)
    made = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert made.stdout is not None
    made.stdout.close()
    _, err = made.communicate()
    assert (made.returncode, err) == (0, b"")


CASE = {"id": "a", "kind": "train", "model": "gpt2", "precision": "amp", "batch": 4, "seq": 128,
        "measured": {"peak": 7487976448}}  # fmt: skip
WRONG = {
    "meta": ["device"], "configs": {"gpt2": 5}, "kind": "zzz", "model": "none", "batch": 10**400, "seq": 1.5,
    "optimizer": 5, "attn": [], "method": 5, "args": "abc", "measured": {}, "precision": "x",
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_files_of_measurements_say_what_is_wrong(llmcalc, tmp_path, field):
    with gzip.open(ROOT / "tests/accuracy/gpu_memory.json.gz") as file:
        config = json.load(file)["configs"]["gpt2"]
    whole = {"meta": {"device": "x"}, "configs": {"gpt2": config}, "cases": [copy.deepcopy(CASE)]}
    (whole if field in whole else whole["cases"][0])[field] = WRONG[field]  # type: ignore[index]
    path = tmp_path / "m.json"
    path.write_text(json.dumps(whole))
    ran = llmcalc(f"validate {path}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "Error:" not in ran.err.removeprefix("error:")
    assert field.rstrip("s") in ran.err
    for bad in (None, "x", [1], {"peak": float("inf")}):
        whole = {"configs": {"gpt2": config}, "cases": [CASE | {"measured": bad}]}
        path.write_text(json.dumps(whole))
        assert llmcalc(f"validate {path}").code == 2


@pytest.mark.parametrize(
    "text",
    [f"{start}\n[quantities]\nx = 1\n" for start in ("title = 0x{}", "notes = [0x{}]", "[units]\nu = 0x{}")],
)
def test_whole_numbers_of_any_base_are_bounded(llmcalc, tmp_path, text):
    path = tmp_path / "s.toml"
    path.write_text(text.format("f" * 20_000))
    ran = llmcalc(f"fermi {path}")
    assert (ran.code, "digits" in ran.err) == (2, True)


@pytest.mark.parametrize("spread", ["log-normal between 1e-120 and 1e100", "between 1e-165 and 1e165"])
def test_a_spread_beyond_floats(llmcalc, tmp_path, spread):
    path = tmp_path / "s.toml"
    path.write_text(f'[quantities]\nx = "{spread}"\ny.formula = "3 / x"\n')
    assert llmcalc(f"fermi {path} --samples 10").code in (0, 2)


# hangs


@pytest.mark.parametrize(
    "formula",
    [
        "(1 + growth)**365 * 3 + 5", "(a+b)**50 + a**50", "(1+growth)**999 + 5", "(a+b+c+d)**30 + 1",
        "exp(0.333333333333333333333)+1", "sqrt(exp(0.333333333333333333333)/3) - 1", "exp(-1e20)",
        "(1.0000001**1000)**1000*a",
    ],
)  # fmt: skip
def test_derivations_of_any_formula_end_soon(llmcalc, tmp_path, formula):
    path = tmp_path / "s.toml"
    path.write_text(f'[quantities]\ngrowth = 0.01\na = 2\nb = 3\nc = 4\nd = 5\nx = "= {formula}"\n')
    start = time.perf_counter()
    assert llmcalc(f"fermi {path} --derive").code == 0
    assert time.perf_counter() - start < 5


@pytest.mark.thorough
def test_patterns_end(llmcalc):
    start = time.perf_counter()
    for line in (
        "peft --targets '(([a-z._0-9]+)+)+!'",
        """peft --method lora --arg 'rank_pattern={"(([a-z._0-9]+)+)+!": 4}'""",
        """peft --method lora --arg 'modules_to_save=["(([a-z._0-9]+)+)+!"]'""",
    ):
        ran = llmcalc(line)
        assert (ran.code, "takes too long" in ran.err) == (2, True)
    assert time.perf_counter() - start < 20
    assert llmcalc(r"peft --targets '(.*\.)+(q|v)_proj' --format json").results == llmcalc("peft --format json").results
    assert [takes(r"(ab)+c", name) for name in ("ababc", "abab", "c")] == [True, False, False]
    with pytest.raises(InputError, match="too long"):
        takes(r"(a+)+b", "a" * 60)


def test_long_lines_of_a_file_end(llmcalc, tmp_path):
    """Each is read in one go: what could begin anywhere in a word or a blank was looked for from every place of it."""
    start = time.process_time()
    log = (ROOT / "tests/engines/llamacpp_qwen3.log").read_text()
    for name, text in {
        "word.log": log + "x" * 300_000, "size.log": log.replace("file size   = ", "file size   = " + "9" * 300_000),
        "blank.log": log + "print_info: a" + " " * 300_000, "Modelfile": "\n" * 300_000,
        "b.Modelfile": "FROM a" + " " * 300_000 + "b\n",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.write_text(text)
        assert llmcalc("validate" if name.endswith(".log") else "models", path).code in (0, 2)
    assert time.process_time() - start < 10


def test_a_log_whose_beginning_is_gone(llmcalc, tmp_path):
    whole = (ROOT / "tests/engines/llamacpp_qwen3.log").read_text()
    path = tmp_path / "server.log"
    for text in (whole.replace("loaded meta data", "loaded"), whole.partition("\n")[2]):
        path.write_text(text)
        assert llmcalc("validate", path).code in (0, 2)


LAYERS = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_attention_heads": 4,
          "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip


def test_a_stack_has_a_bounded_height(llmcalc, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LAYERS | {"num_hidden_layers": 10**8}))
    for line in ("memory --quantization q4_k_m", "zero --recipe torch-mixed", "peft", "infer"):
        ran = llmcalc(f"{line} --model {path}")
        assert (ran.code, "at most 10,000" in ran.err) == (2, True)


def test_headers_are_bounded_and_end_with_their_tensors(llmcalc, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 40_000_000))
    with path.open("r+b") as file:
        file.truncate(50_000_000)
    assert llmcalc(f"models {path}").code == 2
    raw = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 80)
    ran = llmcalc(f"models {path}")
    assert (ran.code, "follow its last tensor" in ran.err) == (2, True)


@pytest.mark.parametrize("line", ["fermi brain", "models", "gpus"])
def test_a_terminal_of_any_width(llmcalc, monkeypatch, line):
    monkeypatch.setenv("COLUMNS", "100000000")
    assert llmcalc(line).code == 0


# text of files is data


def test_texts_of_a_file_are_no_markdown_and_no_lines(llmcalc, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'title = "<script>alert(1)</script>\\n```\\n# x | y"\n[quantities]\n'
        'x = {value = 1, label = "=cmd|A0 <b>", note = "a\\n```\\nb"}\n'
    )
    out = llmcalc(f"fermi {path} --format markdown").out
    assert "<script>" not in out
    assert not any(line.startswith("```") for line in out.splitlines())
    assert "<b>" not in out
    assert llmcalc(f"fermi {path} --format csv").out.splitlines()[1].startswith("x,1,ratio,'=cmd")


def test_a_scenario_may_begin_with_a_byte_order_mark(llmcalc, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text("\ufefftitle = 'x'\n[quantities]\nx = 1\n", encoding="utf-8")
    assert llmcalc(f"fermi {path}").code == 0


def test_expressions_are_read_with_the_letters_that_the_report_names(llmcalc):
    """N and E are functions and numbers of SymPy: expressions are read with ``symbols`` as locals."""
    import sympy

    for line in ("zero --model symbolic --gpus N", "kvcache mixtral-8x7b", "zero mixtral-8x7b --gpus 8"):
        found = llmcalc(f"{line} --derive --format json").json
        letters = {s["name"]: sympy.Symbol(s["name"], positive=True, integer=True) for s in found["symbols"]}
        for d in found["derivations"]:
            expression = sympy.sympify(d["expression"], locals=letters)
            assert {s.name for s in expression.free_symbols} <= set(letters)
            numbers = {letters[s["name"]]: s["value"] for s in found["symbols"] if s["value"] is not None}
            if isinstance(d["value"], int):
                assert expression.subs(numbers) == d["value"]


def test_nothing_runs_on_after_it(llmcalc):
    assert llmcalc("peft --targets '(.*x)+'").code == 2
    assert threading.active_count() < 20


# what python -m tests.fuzz found


def test_an_adapters_file_says_what_is_wrong(llmcalc, tmp_path):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "target_modules": 10**8}))
    for place in (tmp_path, "x" * 400, "~nosuch/x"):
        ran = llmcalc("flops", "--adapter", place)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
    path.write_text(json.dumps({"peft_type": "LORA", "target_modules": "[[]]"}))
    assert llmcalc("flops", "--adapter", tmp_path).code == 2  # re warns of a nested set


def test_numbers_of_a_log_are_bounded(llmcalc, tmp_path):
    text = (ROOT / "tests/engines/llamacpp_qwen3.log").read_text()
    line = next(line for line in text.splitlines() if " n_ctx " in line or "n_ctx  " in line)
    path = tmp_path / "x.log"
    for value in ("0x" + "f" * 9000, "nan", "-1", "9" * 30):
        path.write_text(text.replace(line, line.partition("=")[0] + f"= {value}"))
        ran = llmcalc("validate", path)
        assert (ran.code, ran.err.count("error: ")) == (2, 1)


def test_a_card_has_bounded_numbers(llmcalc, tmp_path):
    path = tmp_path / "card.toml"
    path.write_text("memory_bytes = 0x" + "f" * 9000)
    assert llmcalc(f"memory --gpu {path}").code == 2


def test_sweep_reads_plain_numbers(llmcalc):
    ran = llmcalc("sweep zero --model gpt2 --gpus-per-node 4 --keys stage0.memory_bytes")
    assert ran.code == 0
    ran = llmcalc("sweep zero --model gpt2 --gpus-per-node x")
    assert (ran.code, ran.out) == (2, "")


def test_what_is_asked_wrongly_is_said_before_an_answer(llmcalc):
    ran = llmcalc("kvcache gpt2 --check-fit")
    assert (ran.code, ran.out) == (2, "")
    assert llmcalc("memory llama-3-70b --gpu t4 --check-fit").out


def test_controls_in_cells_of_several_lines(llmcalc, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[quantities]\nx = {value = 1, label = "\\u001b[31m", note = "a"}\n')
    assert "\x1b" not in llmcalc(f"fermi {path}").out


def test_a_name_too_long_for_a_file(llmcalc):
    for line in ("models", "validate"):
        ran = llmcalc(line, "9" * 5000)
        assert (ran.code, ran.err.count("\n"), "internal" in ran.err) == (2, 1, False)


def test_a_sum_of_no_terms(llmcalc):
    for gamma in (0, 1, 5):
        assert llmcalc(f"decode speculative --gamma {gamma} --derive").code == 0


def test_numbers_of_a_log_are_numbers(llmcalc, tmp_path):
    text = (ROOT / "tests/engines/llamacpp_qwen3.log").read_text()
    line = next(line for line in text.splitlines() if "model buffer size" in line)
    size = line.rpartition("=")[2].split()[0]
    path = tmp_path / "x.log"
    for value in ("0.00", "0..50", "1.2.3", "."):
        path.write_text(text.replace(line, line.replace(size, value)))
        ran = llmcalc("validate", path)
        assert (ran.code in (0, 2), "internal" in ran.err) == (True, False), value


def test_a_rotation_of_one_number_is_none(llmcalc):
    for line in ("peft", "train", "memory --mode training"):
        ran = llmcalc(f"{line} --method oft --arg oft_block_size=1")
        assert (ran.code, "oft_block_size" in ran.err) == (2, True)


@pytest.mark.parametrize("field", ["fp32", "gb_s", "bf16"])
def test_a_peak_beyond_floats(llmcalc, tmp_path, field):
    path = tmp_path / "card.toml"
    lines = (ROOT / "presets/gpus/a100-40gb.toml").read_text().splitlines()
    large = [f"{field} = 1e300" if x.startswith(f"{field} =") and "true" not in x else x for x in lines]
    path.write_text("\n".join(large))
    for line in ("flops", "infer"):
        ran = llmcalc(f"{line} --gpu {path}")
        assert (ran.code, "internal" in ran.err) == (2, False)


@pytest.mark.parametrize(
    "typed", ["flops --mode training", "flops", "train --tokens 1G", "peft --optimizer adafactor-hf"]
)
@pytest.mark.parametrize("targets", ["", " --targets query_key_value"])
def test_a_method_that_trains_nothing(llmcalc, typed, targets):
    """peft's own defaults: rows of no tokens."""
    ran = llmcalc(f"{typed} --model pythia-14m --method trainable_tokens{targets}")
    assert ran.code == 0, ran.err


def test_layers_are_counted_before_advice_on_them(llmcalc):
    start = time.process_time()
    ran = llmcalc("infer pythia-14m --set num_hidden_layers=10000 --gpu-memory 1GB")
    assert ran.code == 0, ran.err
    assert time.process_time() - start < 5


def test_layers_with_weights_of_their_own_are_bounded(llmcalc):
    """30,000 of them took train minutes: each is a layer of another kind."""
    groups = "--set num_hidden_layers=9000 --set num_hidden_groups="
    ran = llmcalc(f"train albert-base-v2 {groups}9000")
    assert ran.code == 2
    assert "num_hidden_groups=9000, inner_group_num=1: out of range (at most 32 layers" in ran.err
    assert llmcalc(f"memory albert-base-v2 {groups}30").code == 0


def test_a_tower_has_a_bounded_height(llmcalc):
    """Each of its layers is a tensor of its own where FSDP gathers the root: 27,001 took train nine seconds."""
    layers = "gemma-3-12b-multimodal --set vision_config.num_hidden_layers="
    ran = llmcalc(f"train {layers}9001")
    assert (ran.code, "9,001 layers of the vision tower are out of range (at most 1,000)" in ran.err) == (2, True)
    assert llmcalc(f"memory {layers}900").code == 0


def test_layers_that_are_gone_through_one_by_one_are_bounded(llmcalc):
    """DDP's buckets of 24,001 layers took train 16 seconds, DeepSpeed's and the allocator's blocks a minute."""
    deep = "-m llama-3-8b --set num_hidden_layers=9601"
    assert llmcalc(f"train {deep} --gpus 100").code == 0
    for more in ("--recipe deepspeed --gpus 8 --stage 2", "--recipe torch --allocator simulated"):
        ran = llmcalc(f"memory {deep} {more}")
        assert (ran.code, "goes through every layer: at most 1,000, not 9,601" in ran.err) == (2, True)


def test_either_stack_is_bounded_where_llamacpp_goes_through_it(llmcalc):
    """The encoder's layers were not looked at: 30,000 of them took the advice of `infer` half a minute."""
    for stack in ("num_layers", "num_decoder_layers"):
        ran = llmcalc(f"memory t5-small --engine llama.cpp --set {stack}=513")
        assert (ran.code, "llama.cpp takes at most 512 layers, got 513" in ran.err) == (2, True)


def test_replicated_layers_are_bounded(llmcalc):
    pairs = "[" + ",".join(["[0,16]"] * 700) + "]"
    ran = llmcalc("peft", "--model", "llama-3.2-1b", "--method", "lora", "--arg", f"layer_replication={pairs}")
    assert (ran.code, "layer_replication makes more than 10,000 layers" in ran.err) == (2, True)


def test_a_pooler_of_one_sequence_is_no_answer(llmcalc):
    """Half of its one row was a product of no rows, whose rate has no logarithm: exit 70."""
    assert llmcalc("train bge-m3 --recipe grpo").code == 0


@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_adapters_under_deepspeed_and_checkpointing(llmcalc, stage):
    """The embeddings that are made to want a gradient are no parameter, whose gradients alone fill the buckets."""
    line = f"memory pythia-14m --mode training --recipe deepspeed --gpus 2 --stage {stage} --method lora"
    once, again = (llmcalc(f"{line} --checkpointing {kind} --format json").results for kind in ("none", "full"))
    assert again["peak.allocated_bytes"] <= once["peak.allocated_bytes"]


@pytest.mark.parametrize("model", ["bert-base-uncased", "bge-m3", "distilbert-base"])
def test_factors_of_modules_that_share_none(llmcalc, model):
    """Lily's A is a layer's own: the prediction head's dense layer was asked for that of the attention's output."""
    assert llmcalc(f"memory {model} --mode training --method lily --targets all-linear").code == 0


def test_patches_that_are_larger_than_the_image(llmcalc):
    ran = llmcalc("infer gemma-3-4b-multimodal --images 1 --set vision_config.patch_size=1000")
    assert (ran.code, "cuts images of 896 x 896 pixels into patches of 1000 x 1000" in ran.err) == (2, True)


def test_derived_ranks_are_written_out_once(llmcalc):
    """10,000 layers of experts took half a minute: the same rank written out for each, in every change."""
    start = time.process_time()
    assert llmcalc("train deepseek-v2-lite --derive --set num_hidden_layers=10000").code == 0
    assert time.process_time() - start < 5


def test_an_adaption_prompt_stands_around_an_attention(llmcalc):
    ran = llmcalc("memory llama-3.2-1b --mode training --method adaption_prompt --targets q_proj")
    assert (ran.code, "stands around an attention, not a linear layer" in ran.err) == (2, True)


@pytest.mark.parametrize("line", [
    "memory qwen3-next-80b-a3b --mode training --recipe litgpt",  # its attention has a gate
    "memory bloom-560m --mode training --method trainable_tokens --optimizer adafactor-hf --gpus 2",  # no rows at all
    "memory mixtral-8x7b --engine llama.cpp -q q8_0 -c 8k --gpu rtx-4070 --derive",  # experts on the host, in words
    "train --model deepseek-v4-flash --recipe deepspeed --method qlora --targets all-linear --rank 4 --accumulation 2 "
    "--attention eager --reentrant --hold-outputs --gpus 2 --buckets auto",  # 7 s of advice
    "train deepseek-v3 --recipe deepspeed --method unilora --targets all-linear --gpus 4",  # 11 s of advice
    "train qwen3-235b-a22b --recipe deepspeed --method qlora --gpus 2",
    "memory deepseek-v2-lite --mode training --recipe litgpt",  # a latent attention
    "memory phi-4-mini --mode training --recipe deepspeed --method trainable_tokens --gpus 2 --stage 2",  # none trained
    "train qwen1.5-moe-a2.7b --method beft --targets all-linear",  # a gate of one output
    "train qwen3-235b-a22b --method lora --seq-len 64k --gpu rtx-a2000 --derive",  # advice is not derived
    "train qwen1.5-moe-a2.7b --method trainable_tokens --gpus 4 --stage 0 --expert-parallel 2",  # none trained
    "memory deepseek-v4-pro --mode training --recipe deepspeed --packing --gpus 4 --overlap-comm off --gpu l4",  # 6 s
])  # fmt: skip
def test_options_that_were_never_together(llmcalc, line):
    start = time.process_time()
    assert llmcalc(line).code in (0, 2)
    assert time.process_time() - start < 10


def test_shorter_sequences_are_shorter_where_a_row_is_packed(llmcalc):
    """Half of the packed row was looked for: for ever, where a reward's pairs make it twice as long."""
    line = "memory llama-3-8b --mode training --recipe reward --packing --method lora --batch-size 4 --seq-len 8k"
    ran = llmcalc(f"{line} --gpu rtx-3060")
    assert (ran.code, "--seq-len 4096" in ran.out) == (0, True)


def test_a_pool_that_divides_by_ten_is_written_without_rounding(llmcalc):
    """Its working rounded where its number had not to: at other sizes they differ."""
    for size in range(16_000_000_000, 16_000_000_010):
        ran = llmcalc(f"kvcache llama-3.2-1b --engine tensorrt-llm --gpu-memory {size} --derive")
        assert ran.code == 0, ran.err


@pytest.mark.parametrize("search", ["tune", "train", "serve"])
def test_a_search_shows_rows(llmcalc, search):
    ran = llmcalc(f"plan {search} llama-3.2-1b --top -1")
    assert (ran.code, "--top must be at least 1, got -1" in ran.err) == (2, True)


def test_a_class_that_is_no_text(llmcalc, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LAYERS | {"architectures": [2**63]}))
    assert llmcalc(f"memory --model {path} --recipe reward").code in (0, 2)


@pytest.mark.parametrize("engine", ["vllm", "llama.cpp", "sglang"])
def test_versions_of_many_digits(llmcalc, engine):
    """Python reads no number of 5,000 digits."""
    for version in ("9" * 5000, "0." + "9" * 5000):
        assert llmcalc(f"infer gpt2 --engine {engine} --engine-version {version}").code == 2
        assert llmcalc(f"memory gpt2 --mode training --transformers 4.{version}").code == 2


@pytest.mark.parametrize(
    "options",
    ["psoft --arg use_cayley_neumann=true --arg num_cayley_neumann_terms=100000000", "peanut --arg depth=100000000",
     "hra --rank 2000", "hra --rank 200 --arg apply_GS=true", "hra --rank 700 --targets all-linear"],
)  # fmt: skip
def test_loops_of_an_adapter_are_bounded(llmcalc, options):
    ran = llmcalc(f"memory llama-3-8b --method {options}")
    assert (ran.code, "each step is simulated" in ran.err or "each is simulated" in ran.err) == (2, True)


def test_advice_runs_fewer_of_long_steps(llmcalc):
    """64 reflections of 96 matrices, in 22 runs, took 9 s."""
    line = "memory bart-base --mode training --method hra --targets all-linear --rank 64 --seq-len 4k --batch-size 16"
    start = time.process_time()
    ran = llmcalc(f"{line} --gpu rtx-3060-ti")
    assert time.process_time() - start < 5
    assert (ran.code, "others were not run: a step has too many operations" in " ".join(ran.out.split())) == (0, True)


@pytest.mark.parametrize(
    ("model", "kind", "widths"),
    [("gemma-4-e2b", "self_attn_o_proj", "2,048 and 4,096"), ("qwen2.5-vl-7b", "mlp_gate_proj", "3,584 and 1,280")],
)
def test_a_basis_of_two_widths_is_refused(llmcalc, model, kind, widths):
    """peft 0.21.2 fails: it has one basis for all modules of a name. The step had none for some, and exit 70."""
    for command in ("memory", "peft"):
        ran = llmcalc(f"{command} {model} --method frod --targets all-linear")
        said = f"one basis for all {kind} of a model, whose inputs are {widths} wide"
        assert (ran.code, said in ran.err) == (2, True)


@pytest.mark.parametrize("engine", ["tensorrt-llm", "vllm", "sglang"])
def test_a_stage_without_a_cache_of_its_own(llmcalc, engine):
    """The last layers of Gemma 4 E2B read the keys of earlier ones: a stage of them divided by no bytes a token."""
    line = f"memory gemma-4-e2b --engine {engine} --gpu h100-sxm --format json"
    for stages in (2, 5):
        ran = llmcalc(f"{line} --pipeline-parallel {stages}")
        assert ran.results["fits"] == "yes"
        assert ran.results["kv_tokens"] > 0


def test_a_shadow_of_several_streams_is_refused(llmcalc):
    """ShadowPEFT's state is [b, s, d], DeepSeek-V4's stream [b, s, n, d]: peft's difference of the two fails."""
    for command in ("memory", "peft"):
        ran = llmcalc(f"{command} deepseek-v4-flash --method shadow")
        assert (ran.code, "has several residual streams" in ran.err) == (2, True)


def test_an_encoders_buffers_are_derived(llmcalc):
    """Where its pass needs more than the decoder's, the derivation ended with exit 70."""
    line = "memory t5-3b --engine llama.cpp --gpu-layers 10 --gpu rtx-pro-4000"
    plain, derived = (" ".join(llmcalc(f"{line} {more}").out.split()) for more in ("--detail", "--derive"))
    said = plain[plain.index("they grow by") :].partition(" in the encoder's")[0]
    assert said in derived


@pytest.mark.parametrize("depth", [99_999_996, 10**11])
def test_a_towers_depth_is_not_looked_over(tmp_path, llmcalc, depth):
    """Qwen2.5-VL's tower asked of each of 99,999,996 layers whether it attends within windows, for 20 s."""
    config = load_model("qwen2.5-vl-7b").config.raw
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | {"vision_config": config["vision_config"] | {"depth": depth}}))
    start = time.process_time()
    ran = llmcalc(f"flops --model {path} --part text")
    assert (ran.code, "out of range" in ran.err) == (2, True)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("place", ["x" * 5000, "~nosuchuser/x", "a,b"])
def test_an_adapter_that_is_no_path(llmcalc, place):
    """A name longer than a file's ended with exit 70."""
    ran = llmcalc(f"infer llama-3-8b --engine llama.cpp --quantization q4_0 --gpu rtx-4090 --lora {place}")
    assert (ran.code, f"--lora {place.partition(',')[0][:80]}: no such file" in ran.err) == (2, True)


@pytest.mark.parametrize("model", ["gemma-4-e2b", "gemma-4-e4b"])
@pytest.mark.parametrize("engine", ["sglang", "vllm", "tensorrt-llm", "llama.cpp"])
def test_a_token_of_layers_that_read_anothers_is_derived(llmcalc, model, engine):
    """SGLang has a pool for them too, which the working of a token's bytes left out: exit 70."""
    ran = llmcalc(f"memory {model} --engine {engine} --seq-len 1k --derive --gpu h200")
    assert (ran.code, ran.err) == (0, "")


def test_a_tokens_name_is_text_in_latex(llmcalc):
    """A tree's tokens stood in the mask as they were given: control characters, and LaTeX of the user's."""
    ran = llmcalc("decode", "tree", "--heads", "E", "--format", "latex", "--root", "\x1b[31m%_\n\\end{verbatim}")
    assert (ran.code, "\x1b" in ran.out, ran.out.count("\\end{verbatim}")) == (0, False, 1)
    assert "t_{\\text{\\textbackslash{}x1b[31m\\%\\_" in ran.out
    assert "t_{E}" in ran.out


@pytest.mark.parametrize(("arg", "said"), [("use_dora", "use_dora"), ("lora_bias", "a bias of LoRA's own")])
@pytest.mark.parametrize("divided", ["--tensor-parallel 2", "--pipeline-parallel 2 --micro-batches 2"])
def test_more_than_loras_two_matrices_is_not_divided(llmcalc, arg, said, divided):
    """An adapter's config that says use_dora passed for LoRA: exit 70."""
    given = "--mode training --method lora --targets q_proj"
    ran = llmcalc(f"memory llama-3-8b {given} --arg {arg}=true --gpus 2 {divided}")
    assert (ran.code, f"is not simulated with {said}: use full or lora" in ran.err) == (2, True)


@pytest.mark.parametrize(("field", "raw"), [
    ("hc_sinkhorn_iters", {"model_type": "deepseek_v4"}),
    ("altup_num_inputs", {"model_type": "gemma3n_text", "num_hidden_layers": 30, "hidden_size": 2048}),
])  # fmt: skip
def test_what_a_layer_does_one_by_one_is_bounded(tmp_path, llmcalc, field, raw):
    """20,001 rounds of Sinkhorn's balancing took 11 s, a billion copies of a stream eight gigabytes."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw | {field: 10**9}))
    ran = llmcalc(f"memory --model {path}")
    assert (ran.code, f"{field} is out of range (at most 100)" in ran.err) == (2, True)


@pytest.mark.parametrize(("fields", "said"), [
    ({"num_kv_shared_layers": 1024}, "num_kv_shared_layers must be less than the 6 layers, got 1024"),
    ({"num_kv_shared_layers": 6}, "num_kv_shared_layers must be less than the 6 layers, got 6"),
    ({"num_kv_shared_layers": 1}, "no layer before the last 1 is of full_attention"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["kvcache --model", "models", "memory"])
def test_some_layer_keeps_the_keys_that_others_reuse(tmp_path, llmcalc, command, fields, said):
    """Where every layer of a Gemma 4 reused another's, nothing was cached: exit 70. transformers does not build it."""
    path = tmp_path / "config.json"
    types = ["sliding_attention"] * 5 + ["full_attention"]
    raw = {"model_type": "gemma4_text", "num_hidden_layers": 6, "layer_types": types}
    path.write_text(json.dumps(raw | fields))
    ran = llmcalc(f"{command} {path}")
    assert (ran.code, said in ran.err) == (2, True)


@pytest.mark.parametrize("fields", [
    {"hybrid_override_pattern": "----"}, {"hybrid_override_pattern": "-*M*", "num_kv_shared_layers": 3},
])  # fmt: skip
def test_a_model_whose_layers_keep_nothing_has_no_cache(tmp_path, llmcalc, fields):
    """Layers of MLPs alone: the sum of no parts has no unit, exit 70; memory and infer count a cache of 0 bytes."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "nemotron_h", "num_hidden_layers": 4, **fields}))
    ran = llmcalc(f"kvcache --model {path}")
    assert (ran.code, "no layer keeps keys and values, or a state" in ran.err) == (2, True)
    assert {llmcalc(f"{command} --model {path}").code for command in ("memory", "infer")} == {0}


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-fused", "adamw8bit", "adafactor", "lion", "muon"])
def test_an_adapter_without_numbers_of_its_own_is_reserved_for(tmp_path, llmcalc, optimizer):
    """peft's trainable tokens name none unless told: the largest of no temporaries divided by zero, exit 70."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "TRAINABLE_TOKENS", "task_type": "CAUSAL_LM"}))
    ran = llmcalc(f"memory gpt2 --adapter {folder} --mode training --allocator simulated --optimizer {optimizer}")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm", "tgi"])
def test_an_engine_looks_at_ten_thousand_layers_in_time(tmp_path, llmcalc, engine):
    """Each layer's key hashed the indices of its whole group, and SGLang compared each with all: 9 s to 157 s."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gemma2", "num_hidden_layers": 10_000, "hidden_size": 3584}))
    began = time.process_time()
    assert llmcalc(f"infer {path} --engine {engine} --gpu h200").code == 0
    assert time.process_time() - began < 5


def test_layers_whose_order_counts_are_not_gone_through_without_end(tmp_path, llmcalc):
    """Checkpointed, Gemma 4's layers are simulated in turn, as later ones reuse keys: a minute for 10,000."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gemma4_text", "num_hidden_layers": 10_000}))
    ran = llmcalc(f"memory {path} --mode training --checkpointing full")
    assert (ran.code, "goes through every layer: at most 1,000, not 10,000" in ran.err) == (2, True)
    assert llmcalc(f"memory {path} --mode training").code == 0


def test_what_comes_to_nothing_stands_in_a_sum_of_letters(tmp_path, llmcalc):
    """A cartridge of one virtual token, which is frozen, trains none: the share's working left it out, exit 70."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "CARTRIDGE", "task_type": "CAUSAL_LM"}))
    ran = llmcalc(f"peft --adapter {folder} --model gpt2 --virtual-tokens 1 --derive")
    assert (ran.code, "100*0/(" in ran.out) == (0, True)
