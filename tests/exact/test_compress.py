"""Pruning and quantisation: homework's answers, published bits a weight, bad input."""

from __future__ import annotations

import pytest
import sympy

from estimator.formulas.compress import block_bits


def simplified(llmcalc, command: str, key: str, want: str) -> bool:
    ran = llmcalc(f"{command} --derive --format json").json
    text = next(d["expression"] for d in ran["derivations"] if d["key"] == key)
    return sympy.simplify(sympy.sympify(text) - sympy.sympify(want)) == 0


def test_channel_pruning(llmcalc):
    assert llmcalc("compress prune --channels 0.3 --format json").results["macs_ratio"] == 0.49


def test_masked_weights_are_still_multiplied(llmcalc):
    found = llmcalc("compress prune --weights 0.9 --format json")
    assert found.results["macs_ratio"] == 1
    assert "time stays constant" in found.json["assumptions"][0]


def test_convolution(llmcalc):
    command = "compress prune --conv c_o,h_o,w_o,k_h,k_w,c_i"
    assert simplified(llmcalc, command, "macs", "c_o*h_o*w_o*k_h*k_w*c_i")
    found = llmcalc("compress prune --conv 64,56,56,3,3,64 --format json").results
    assert found["macs"] == 64 * 56 * 56 * 9 * 64


def test_levels(llmcalc):
    assert simplified(llmcalc, "compress quantize --bits n", "levels", "2**n")
    assert llmcalc("compress quantize --bits 4 --format json").results["levels"] == 16


def test_scale_and_zero_point(llmcalc):
    command = "compress linear --rmin -2.12 --rmax 1.08 --bits 2"
    assert simplified(llmcalc, command, "scale", "(r_max - r_min)/(q_max - q_min)")
    assert simplified(llmcalc, command, "zero_unrounded", "q_min - r_min/((r_max - r_min)/(q_max - q_min))")
    found = llmcalc(f"{command} --format json").results
    assert found["scale"] == 3.2 / 3
    assert found["zero_point"] == 0
    unsigned = llmcalc("compress linear --rmin 0 --rmax 25.5 --bits 8 --no-signed --format json").results
    assert (unsigned["scale"], unsigned["zero_point"]) == (0.1, 0)


# bits a weight: (code bits, block, scale bits, zero bits): llama.cpp ggml-common.h and the OCP MX specification
@pytest.mark.parametrize(
    ("layout", "want"),
    [
        ((4, 32, 16, 0), 4.5),
        ((4, 32, 16, 16), 5.0),
        ((8, 32, 16, 0), 8.5),
        ((4, 32, 8, 0), 4.25),
        ((4, 16, 8, 0), 4.5),
        ((4, 128, 16, 4), 4.15625),
        ((4, 64, 32, 0), 4.5),
    ],
)
def test_published_bits_a_weight(layout, want):
    assert block_bits(*layout) == want


@pytest.mark.parametrize(
    "argv",
    [
        "prune", "prune --channels 1", "prune --channels -0.1", "prune --channels x",
        "prune --channels .1 --weights .1",
        "prune --conv 1,2", "prune --conv 1,2,3,4,5,0", "quantize --bits 0", "quantize --bits 65", "quantize --block 0",
        "linear --rmin 1 --rmax 1", "linear --bits 0", "linear --rmin inf", "quantize --set a=1",
    ],
)  # fmt: skip
def test_bad_input(llmcalc, argv):
    ran = llmcalc(f"compress {argv}")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
