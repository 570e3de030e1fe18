"""Time and space of a linear layer and of multi-head attention under LoRA and QLoRA, and which to prefer when."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

from estimator.formula import Citation
from estimator.formulas import peft as f
from estimator.report import Cell, Node, Report, Table
from estimator.sizes import letter_or_size
from estimator.units import BITS, MACS, RATIO, Unit
from estimator.working import Step, over, plus, times

LETTERS = {"n": "tokens", "d": "width", "r": "rank", "h": "heads"}
FP32, FP16 = 32, 16
ADDED = "LoRA's multiply-adds, and the weights unpacked once a use"
SHARE = "what dequantisation adds over the merged work"
FOUR = "four matrices a head: q, k, v and the head's part of the output projection"


def complexity(rank: Any = None, seq_len: Any = None, width: Any = None, heads: Any = None) -> Report:
    """Exact multiply-adds, parameters and bits, each with its order of growth; letters unless numbers are given.

    A layer is d x d; attention has h heads that each project d to d, as the textbook exercise has it (the standard
    module with heads of d/h stands beside it). LoRA of rank r on q, k and v.
    """
    n, d, r, h = (
        letter_or_size(str(value or name), flag, name)
        for name, value, flag in (
            ("n", seq_len, "--seq-len"),
            ("d", width, "--width"),
            ("r", rank, "--rank"),
            ("h", heads, "--heads"),
        )
    )
    unpacked, saved = f.dequantisation_macs(d), f.nf4_saving(d, FP16)
    linear = (
        Node.of("linear.unmerged_macs", "LoRA, not merged: O(n d^2)", f.linear_unmerged_macs, n, d, r),
        Node.of("linear.merged_macs", "LoRA, merged: O(n d^2)", f.linear_merged_macs, n, d),
        Node.of("linear.dequantisation_macs", "QLoRA adds, a use of the matrix: O(d^2)", f.dequantisation_macs, d),
        _shown("linear.qlora_macs", "QLoRA, not merged: O(n d^2)", MACS, ADDED, plus, f.linear_unmerged_macs(n, d, r),
               unpacked),
        Node.of("linear.trainable_params", "Trained parameters, both: O(d r)", f.linear_lora_params, d, r),
    )  # fmt: skip
    attention = (
        Node.of("mha.unmerged_macs", "LoRA, not merged: O(h (n^2 d + n d^2))", f.mha_unmerged_macs, n, d, r, h),
        Node.of("mha.merged_macs", "LoRA, merged: O(h (n^2 d + n d^2))", f.mha_merged_macs, n, d, h),
        Node.of("mha.small_output_macs", "with an output projection of d x d", f.mha_unmerged_macs_small_output,
                n, d, r, h),
        Node.of("mha.standard_macs", "heads of d/h: O(n^2 d + n d^2)", f.mha_standard_macs, n, d, r, h),
        _shown("mha.dequantisation_macs", "QLoRA adds, four matrices a head: O(h d^2)", MACS, FOUR, times,
               4, h, unpacked),
        _shown("mha.qlora_macs", "QLoRA, not merged: O(h (n^2 d + n d^2))", MACS, ADDED, plus,
               f.mha_unmerged_macs(n, d, r, h), 4 * h * unpacked),
        Node.of("mha.trainable_params", "Trained parameters, both: O(h d r)", f.mha_lora_params, d, r, h),
    )  # fmt: skip
    saving = (
        Node.of("saving.fp32_bits", "4-bit codes against fp32", f.four_bit_saving, d, FP32),
        Node.of("saving.fp16_bits", "4-bit codes against 16 bits", f.four_bit_saving, d, FP16),
        Node.of("saving.nf4_bits", "NF4 with its constants, against 16 bits", f.nf4_saving, d, FP16),
        Node.of("saving.nf4_dq_bits", "NF4 with double quantisation, against 16 bits", f.nf4_double_saving, d, FP16),
    )
    weight = (
        _shown("mha.saving_bits", "MHA: bits saved by NF4 (4 matrices a head)", BITS, FOUR, times, 4, h, saved),
        Node("linear.saving_bits", "LFFN: bits saved by NF4", saved, BITS),
        _shown("mha.dequantisation_share", "MHA: dequantisation over merged work", RATIO, SHARE, over, 4 * h * unpacked,
               f.mha_merged_macs(n, d, h)),
        _shown("linear.dequantisation_share", "LFFN: dequantisation over merged work", RATIO, SHARE, over, unpacked,
               f.linear_merged_macs(n, d)),
    )  # fmt: skip
    body = (
        Node.group("Linear layer (LFFN): multiply-adds", linear),
        Node.group("Attention (MHA): multiply-adds", attention),
        Node.group("Bits saved on one d x d matrix", saving),
        Node.group("What decides", weight),
        preference(n, d, h),
    )
    facts = {
        "linear.time_big_o": "O(n d^2)",
        "linear.space_big_o": "O(d r)",
        "mha.time_big_o": "O(h (n^2 d + n d^2))",
        "mha.space_big_o": "O(h d r)",
        "prefer.memory.mha": "QLoRA",
        "prefer.memory.lffn": "QLoRA",
        "prefer.inference.mha": "LoRA",
        "prefer.inference.lffn": "LoRA",
        "prefer.both.mha": "QLoRA",
        "prefer.both.lffn": "LoRA",
    }
    inputs = {"rank": rank, "seq_len": seq_len}
    return Report(
        "peft",
        "LoRA and QLoRA: time and space in letters",
        inputs,
        body,
        facts,
        (
            "a multiply-add counts once; LoRA's sum of both branches counts n d",
            "LoRA on q, k and v; every head projects d to d",
        ),
        (Citation(f.LORA), Citation(f.QLORA)),
        symbolic=True,
        letters=LETTERS,
    )


def preference(n: Any, d: Any, h: Any) -> Table:
    """Which of the two to prefer for attention and for a linear layer, with the number behind each cell."""
    saved_mha, saved = 4 * h * f.nf4_saving(d, FP16), f.nf4_saving(d, FP16)
    slow_mha, slow = 4 * h * f.dequantisation_macs(d), f.dequantisation_macs(d)
    rows: tuple[tuple[str | Cell | None, ...], ...] = (
        ("memory is short", "QLoRA: fewer bits by", Cell(saved_mha, BITS), "QLoRA: fewer bits by", Cell(saved, BITS)),
        ("inference must be fast", "LoRA: QLoRA adds", Cell(slow_mha, MACS), "LoRA: QLoRA adds", Cell(slow, MACS)),
        (
            "both",
            "QLoRA: it adds only the share",
            Cell(slow_mha / f.mha_merged_macs(n, d, h), RATIO),
            "LoRA: QLoRA adds the share",
            Cell(slow / f.linear_merged_macs(n, d), RATIO),
        ),
    )
    return Table(
        "Which to prefer",
        ("when", "MHA", "", "LFFN", ""),
        rows,
        "LoRA merged, QLoRA over NF4; bits against 16-bit weights",
    )


def _shown(key: str, label: str, unit: Unit, why: str, how: Callable[..., Any], *parts: Any) -> Node:
    """A number that is worked out in one step from ``parts``: their sum, product or quotient, as ``how`` shows it."""
    value = reduce({plus: operator.add, times: operator.mul, over: operator.truediv}[how], parts)
    return Node(key, label, value, unit, working=lambda: [Step(why, how(*parts))])
