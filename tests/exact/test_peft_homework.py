"""Course questions on adapters, each answered by one command; expressions are equal after simplification."""

from __future__ import annotations

import pytest
import sympy

COURSE = "--dtype fp16 --symbols L=N_layer,d=D"
FREEZE = f"--model symbolic --method freeze --trainable-layers N_top --optimizer sgd {COURSE}"
ADAPTER = f"--model symbolic --method adapter --rank R {COURSE}"
LORA = f"--model symbolic --method lora --rank R --targets q_proj,k_proj,v_proj {COURSE}"
VERA = f"--model symbolic --method vera --rank R --targets q_proj,k_proj,v_proj {COURSE}"
NAMES = ["N_layer", "N_top", "D", "R", "r", "d", "k", "l", "m", "n", "h", "E", "p", "n_kv", "d_head", "L"]
LETTERS = {name: sympy.Symbol(name, positive=True, integer=True) for name in NAMES}


def same(text, expected):
    got = sympy.sympify(text, locals=LETTERS)
    return sympy.simplify(got - sympy.sympify(expected, locals=LETTERS)) == 0


SYMBOLIC = [
    # bytes of gradients when only the top layers train, fp16
    (FREEZE, "gradients_bytes", "24*N_top*D**2"),
    (FREEZE, "optimizer_bytes", "0"),
    # two bottleneck adapters a layer, no biases, fp16
    (ADAPTER, "added_bytes", "8*N_layer*D*R"),
    (ADAPTER, "gradients_bytes", "8*N_layer*D*R"),
    # LoRA and VeRA on query, key and value, fp16
    (LORA, "added_bytes", "12*N_layer*D*R"),
    (VERA, "added_bytes", "6*N_layer*(D + R)"),
    (VERA, "gradients_bytes", "6*N_layer*(D + R)"),
    (VERA, "frozen_extra_params", "2*D*R"),
    # A (m x k) and B (k x l) in fp32 against a full update
    ("--matrix mxl --rank k", "added_bytes", "4*k*(m + l)"),
    ("--matrix mxl --rank k", "full_bytes", "4*m*l"),
    ("--matrix dxk --rank r", "trainable_params", "r*(d + k)"),
    ("--model symbolic --method soft-prompt --virtual-tokens 5 --symbols d=E", "trainable_params", "5*E"),
    ("--model symbolic --method soft-prompt --virtual-tokens p --symbols d=E", "trainable_params", "p*E"),
    # time and space in letters
    ("--complexity", "linear.unmerged_macs", "n*d**2 + 2*n*d*r + n*d"),
    ("--complexity", "linear.merged_macs", "n*d**2"),
    ("--complexity", "linear.dequantisation_macs", "d**2"),
    ("--complexity", "linear.trainable_params", "2*d*r"),
    ("--complexity", "mha.small_output_macs", "h*(2*n**2*d + 3*(n*d**2 + 2*n*d*r + n*d) + n**2) + n*d**2"),
    ("--complexity", "mha.unmerged_macs", "h*(2*n**2*d + 3*(n*d**2 + 2*n*d*r + n*d) + n**2 + n*d**2)"),
    ("--complexity", "mha.trainable_params", "6*h*d*r"),
    ("--complexity", "saving.fp32_bits", "28*d**2"),
    ("--complexity", "saving.fp16_bits", "12*d**2"),
    ("--complexity", "saving.nf4_bits", "23*d**2/2"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "key", "expected"), SYMBOLIC)
def test_expression(llmcalc, options, key, expected):
    ran = llmcalc(f"peft {options} --format json")
    assert ran.code == 0, ran.err
    assert same(ran.results[key], expected)


def test_prefix_tuning_by_heads(llmcalc):
    """Prefix tuning trains keys and values at every layer: 2 L p n_kv d_head."""
    ran = llmcalc(
        "peft --model llama-3-8b --method prefix_tuning --virtual-tokens 20 --derive "
        "--symbols h_kv=n_kv,d_h=d_head --format json"
    )
    assert ran.code == 0, ran.err
    derived = {d["key"]: d["expression"] for d in ran.json["derivations"]}
    assert same(derived["trainable_params"], "2*L*p*n_kv*d_head")
    assert ran.results["trainable_params"] == 2 * 32 * 20 * 8 * 128


def test_double_quantisation_saves_almost_all(llmcalc):
    saved = sympy.sympify(llmcalc("peft --complexity --format json").results["saving.nf4_dq_bits"], locals=LETTERS)
    assert float(saved / LETTERS["d"] ** 2) == pytest.approx(11.873, abs=0.0005)


def test_rank_for_a_fifteenth(llmcalc):
    ran = llmcalc("peft --matrix 120x120 --reduction 15 --format json")
    assert ran.results["rank"] == 4
    assert ran.results["times_fewer"] == 15


def test_which_to_prefer(llmcalc):
    ran = llmcalc("peft --complexity --format json").results
    whens = ("memory", "inference", "both")
    table = {when: [ran[f"prefer.{when}.{part}"] for part in ("mha", "lffn")] for when in whens}
    assert table == {"memory": ["QLoRA", "QLoRA"], "inference": ["LoRA", "LoRA"], "both": ["QLoRA", "LoRA"]}
    n, d = LETTERS["n"], LETTERS["d"]
    share = {k: sympy.sympify(ran[f"{k}.dequantisation_share"], locals=LETTERS) for k in ("mha", "linear")}
    # what decides "both": dequantisation weighs less in attention, and attention saves more bits
    for sizes in ({n: a, d: b} for a in (1, 64, 4096) for b in (8, 4096)):
        assert share["mha"].subs(sizes) < share["linear"].subs(sizes)


def test_orders_of_growth(llmcalc):
    ran = llmcalc("peft --complexity --format json").results
    assert ran["linear.time_big_o"] == "O(n d^2)"
    assert ran["linear.space_big_o"] == "O(d r)"
    assert ran["mha.time_big_o"] == "O(h (n^2 d + n d^2))"
    assert ran["mha.space_big_o"] == "O(h d r)"
