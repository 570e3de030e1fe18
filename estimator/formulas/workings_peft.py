"""How formulas of adapters come about, for derivations: what each counts, in steps that lead to what it returns.

Read only where a derivation is asked for. A function here has the parameters of the formula that it is named after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.formulas.peft import DOUBLE_BLOCK, FP8_BITS, FP32_BITS, NF4_BITS, NF4_BLOCK
from estimator.trace import value_of
from estimator.working import Item, Step, counted, in_bytes, minus, over, part, power, times, working

Steps = Sequence[Step]
PRODUCT = "a product of m x k by k x n takes m k n multiply-adds"


@working
def lora_params(d_in: Any, d_out: Any, r: Any) -> Steps:
    return counted("two thin matrices, whose product has the shape of the whole one", part("A", d_in, r),
                   part("B", r, d_out))  # fmt: skip


@working
def matrix_params(d_in: Any, d_out: Any) -> Steps:
    return counted("the whole matrix", part("W", d_in, d_out))


@working
def adapter_bytes(params: Any, w: Any) -> Steps:
    return [Step(f"a number takes {value_of(w)} bits", in_bytes(params, w))]


def _with_lora(n: Any, d: Any, r: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    return ("X W", (n, d, d)), ("X A", (n, d, r)), ("(X A) B^T", (n, r, d)), ("their sum", (n, d))


def _heads(n: Any, d: Any, h: Any, projected: Item, output: Any) -> list[Item]:
    return [
        projected, part("scores Q K^T", n, d, n, many=h), part("softmax of the scores", n, n, many=h),
        part("weighted sum of V", n, n, d, many=h), part("output projection", n, d, d, many=output),
    ]  # fmt: skip


@working
def linear_unmerged_macs(n: Any, d: Any, r: Any) -> Steps:
    return counted(PRODUCT, *(part(name, *shape) for name, shape in _with_lora(n, d, r)))


@working
def linear_merged_macs(n: Any, d: Any) -> Steps:
    return counted(f"W + A B^T is one matrix; {PRODUCT}", part("X (W + A B^T)", n, d, d))


@working
def dequantisation_macs(d: Any) -> Steps:
    return counted("a code times its block's constant, for each weight", part("W", d, d))


@working
def linear_lora_params(d: Any, r: Any) -> Steps:
    return counted("what LoRA trains", Item(("A", "B"), (("", (d, r)),)))


@working
def mha_unmerged_macs(n: Any, d: Any, r: Any, h: Any) -> Steps:
    return counted(PRODUCT, *_heads(n, d, h, Item(("q", "k", "v"), _with_lora(n, d, r), h), h))


@working
def mha_unmerged_macs_small_output(n: Any, d: Any, r: Any, h: Any) -> Steps:
    return counted(PRODUCT, *_heads(n, d, h, Item(("q", "k", "v"), _with_lora(n, d, r), h), 1))


@working
def mha_merged_macs(n: Any, d: Any, h: Any) -> Steps:
    return counted(PRODUCT, *_heads(n, d, h, Item(("q", "k", "v"), (("X W", (n, d, d)),), h), h))


@working
def mha_standard_macs(n: Any, d: Any, r: Any, h: Any) -> Steps:
    each = over(d, h)
    return counted(
        PRODUCT, Item(("q", "k", "v"), _with_lora(n, d, r)), part("scores Q K^T", n, each, n, many=h),
        part("softmax of the scores", n, n, many=h), part("weighted sum of V", n, n, each, many=h),
        part("output projection", n, d, d),
    )  # fmt: skip


@working
def mha_lora_params(d: Any, r: Any, h: Any) -> Steps:
    return counted("what LoRA trains", Item(("q", "k", "v"), (("A", (d, r)), ("B", (d, r))), h))


@working
def four_bit_saving(d: Any, w: Any) -> Steps:
    return [Step(f"d x d weights of {w} bits, then of {NF4_BITS}", times(minus(w, NF4_BITS), power(d, 2)))]


@working
def nf4_saving(d: Any, w: Any) -> Steps:
    constants = over(times(FP32_BITS, power(d, 2)), NF4_BLOCK)
    return [
        Step(f"codes of {NF4_BITS} bits for {w}, less a constant of {FP32_BITS} bits for each {NF4_BLOCK} weights",
             minus(times(minus(w, NF4_BITS), power(d, 2)), constants))
    ]  # fmt: skip


@working
def nf4_double_saving(d: Any, w: Any) -> Steps:
    first = over(times(FP8_BITS, power(d, 2)), NF4_BLOCK)
    second = over(times(FP32_BITS, power(d, 2)), times(NF4_BLOCK, DOUBLE_BLOCK))
    rule = (
        f"codes of {NF4_BITS} bits for {w}, less a constant of {FP8_BITS} bits for each {NF4_BLOCK} weights and one of "
        f"{FP32_BITS} bits for each {DOUBLE_BLOCK} of those"
    )
    return [Step(rule, minus(minus(times(minus(w, NF4_BITS), power(d, 2)), first), second))]
