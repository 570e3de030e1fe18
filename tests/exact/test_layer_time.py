"""The time of one layer: the homework's sum, and the output projection that it leaves out."""

from __future__ import annotations

import sympy


def test_multiply_adds_of_one_layer(llmcalc):
    found = llmcalc("flops --model symbolic --seq-len n --batch-size 1 --format json").results
    n, d, L = sympy.symbols("n d L")
    macs = sympy.sympify(found["forward_flops"], locals={"n": n, "d": d, "L": L}) / (2 * L)
    seed = 3 * n * d**2 + 2 * n**2 * d + 8 * n * d**2
    assert sympy.simplify(macs - seed - n * d**2) == 0
