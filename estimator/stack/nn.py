"""Modules: linear layers (adapted, quantised) and activation functions, as transformers, peft and bitsandbytes run
them."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Linear
from estimator.families.common_parts import COLUMN, ROW, WHOLE_INPUT, WHOLE_OUTPUT
from estimator.families.towers import Conv
from estimator.inventory import HEAD, ROUTER
from estimator.stack import across, gradients, liger, moves, ops, products
from estimator.stack.eight_bits import int8_linear
from estimator.stack.machine import LoraSpec, Machine
from estimator.stack.packed import INT8
from estimator.stack.sums import scratch
from estimator.stack.tape import F32, HALF, GradFn, Param, Tape, Tensor

UNLOGGED = "unlogged"  # a product that stands for others, which the caller logs
PARTS = {ROUTER: products.ROUTER, HEAD: products.HEAD}  # a linear layer's role -> what it belongs to
NF4_BLOCK = 64  # bitsandbytes: elements that share a scale


def linear(m: Machine, x: Tensor, lin: Linear, rows: Any = None, part: str = "") -> Tensor:
    """x [rows, d_in] -> [rows, d_out], with LoRA where the module is adapted. ``part``: of what, for its FLOPs."""
    rows = m.rows if rows is None else rows
    spec = m.adapters(lin.name)
    if spec is None:
        return base_linear(m, x, lin, rows, part)
    return lora_linear(m, x, lin, rows, spec, part)


def base_linear(m: Machine, x: Tensor, lin: Linear, rows: Any, part: str) -> Tensor:
    """torch.nn.Linear, transformers' Conv1D, or bitsandbytes' Linear4bit."""
    part = part or PARTS.get(lin.role, "")
    if m.packed(lin.name):
        out = packed_linear(m, x, lin, rows)
        if m.t.work is not None:
            products.linear(m.t, out, x.n, lin.d_in * lin.d_out, lin.name, part, rows, (0, False))
        return out
    weight, bias = m.weight(lin)
    if lin.across in (COLUMN, WHOLE_OUTPUT):
        x = x if m.sequence else across.entered(m.t, x)
    elif lin.across == WHOLE_INPUT:
        x = across.cut(m.t, x, m.tensor)
    whole = m.as_trained(weight, lin.name)
    apart, joined = (bias, None) if lin.subclass else (None, bias)
    out = product(m.t, x, whole, joined, rows * lin.d_out, "output", lin.conv1d, lin.name, part, rows)
    del whole
    if apart is not None:  # FalconLinear adds it to what it multiplied
        out = ops.add(m.t, out, apart, "output and bias")
    if lin.across == WHOLE_OUTPUT:
        return across.whole(m.t, out, m.tensor, "output")
    if lin.across in (ROW, WHOLE_INPUT):
        del x
        return across.scattered(m.t, out, m.tensor, m.b != 1) if m.sequence else across.summed(m.t, out)
    return out


def convolution(m: Machine, x: Tensor | None, conv: Conv) -> Tensor:
    """A convolution over pixels, frames or samples; without ``x`` over the model's input."""
    positions = m.b * (m.s - conv.beside) * conv.rows
    if x is None:
        x = m.t.alloc(positions * conv.inputs, m.w, "input")
    weight = m.param(f"{conv.name}.weight", conv.d_out * conv.reads)
    bias = m.param(f"{conv.name}.bias", conv.d_out) if conv.bias else None
    out = product(m.t, x, weight, bias, positions * conv.d_out, "convolution", part=UNLOGGED)
    if m.t.work is not None:
        products.log(m.t, out, conv.name, products.part_at(m.t), positions, conv.reads, conv.d_out,
                     operator="convolution", weight=weight.n)  # fmt: skip
    return out


def product(
    t: Tape, x: Tensor, weight: Tensor, bias: Tensor | None, n: Any, what: str = "output", conv1d: bool = False,
    name: str = "", part: str = "", rows: Any = None,
) -> Tensor:  # fmt: skip
    """mm or addmm: saves the input where the weight trains; the weight is there anyway.

    ``name`` (the weight's own, where none is given), ``part`` and ``rows`` are for the log of products.
    """
    a, w = t.autocast(x), t.autocast(weight)
    x_saved, w_saved = a.st if weight.node is not None else None, w.st if x.node is not None else None
    ins = (a, w) if bias is None else (a, w, t.autocast(bias))
    out = t.emit(
        what, n, w.w, ins, _linear_bwd, (x_saved, w_saved), (a.n, w.n, bias.n if bias is not None else 0, conv1d)
    )
    if t.work is not None and part != UNLOGGED:
        products.linear(t, out, a.n, w.n, name or getattr(weight, "name", "").removesuffix(".weight"), part, rows)
    return out


@moves.moving(moves.nothing, gradients.biased)
def _linear_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    """The input is flattened and the weight transposed by views; Conv1D's weight is not transposed."""
    outs: list[Tensor | None] = []
    for i, p in enumerate(node.ins):
        if p is None:
            outs.append(None)
            continue
        made = t.alloc(node.extra[i], g.w, "gradient of the input" if i == 0 else "weight gradient")
        made.view = i == 0 or (i == 1 and not (node.extra[3] or t.bare))
        outs.append(made)
    if outs[2:] not in ([], [None]) and (partial := scratch(g.n // node.extra[2], node.extra[2], t.card.threads)):
        if node.frame is not None:  # what was computed again is let go of as it is unpacked (torch/utils/checkpoint.py)
            node.saved = None
        t.alloc(partial, 1, "partial sums of the bias's gradient")
    return tuple(outs)


def lora_linear(m: Machine, x: Tensor, lin: Linear, rows: Any, spec: LoraSpec, part: str = "") -> Tensor:
    """peft tuners/lora/layer.py, Linear.forward: result + B(A(x)) * scaling, in the adapters' width."""
    t = m.t
    if spec.forward is not None:
        return spec.forward(m, x, lin, rows, part)
    result = base_linear(m, x, lin, rows, part)
    packed = bool(m.packed(lin.name))
    w = result.w
    if spec.other:
        return other_adapter(m, x, lin, rows, spec, result)
    a = m.param(f"{lin.name}.lora_A", lin.d_in * spec.rank, spec.width, True)
    b = m.param(f"{lin.name}.lora_B", lin.d_out * spec.rank, spec.width, True)
    if spec.dora:
        return dora(m, x, lin, rows, spec, result, a, b)
    if m.kernels.adapters and not spec.dropout:
        return fused_lora(t, x, rows * spec.rank, result, a, b)
    if packed and m.packed(lin.name) != INT8:  # lora/bnb.py, Linear4bit.forward
        result = ops.copy(t, result, "output, cloned")
    if not (packed and t.amp):  # lora/bnb.py leaves the conversion to autocast
        x = ops.to(t, x, spec.width)
    dropped = ops.dropout(t, x) if spec.dropout and not m.drops.silent else x
    low = factor(t, dropped, a, rows * spec.rank, "LoRA A(x)", lin.name, 0, rows)
    del dropped
    if lin.across:  # B is cut as its matrix is by outputs, A as one by inputs
        low = across.entered(t, low) if lin.across == COLUMN else across.summed(t, low)
    high = factor(t, low, b, rows * lin.d_out, "LoRA B(A(x))", lin.name, 1, rows)
    del low
    scaled = ops.scale(t, high, "LoRA output")
    del high
    if packed and not t.amp:
        scaled = ops.to(t, scaled, w)
    result = ops.add(t, result, scaled, "output with LoRA")
    if not packed:
        del scaled
    return ops.to(t, result, w)


def fused_lora(t: Tape, x: Tensor, size: Any, result: Tensor, a: Param, b: Param) -> Tensor:
    """LoRA as a function of its own, as Unsloth and Axolotl write it: the adapter's product (of ``size`` numbers in
    between) is added to ``result`` where it lies, and so is its part of the input's gradient to the base's; its input
    is kept in 16 bits, and for down's computed again.

    Source: unsloth 2026.10.9, kernels/fast_lora.py (LoRA_MLP, LoRA_QKV, LoRA_W); axolotl 0.21, kernels/lora.py.
    """
    low = product(t, Tensor(x.n, x.w, x.st), a, None, size, "LoRA A(x)")
    if low.node is not None and low.node.saved and liger.is_gated(x.node):
        low.node.saved = (None, low.node.saved[1])
    wide = t.autocast(b)
    out = Tensor(result.n, result.w, result.st)
    t.record(out, (result, low, wide), _fused_lora_bwd, [low.st, wide.st], (low.n, low.w, wide.n, wide.w))
    return out


def _fused_lora_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    n, w, size, width = node.extra
    low = None if node.ins[1] is None else t.alloc(n, w, "gradient of A(x)")
    return (g, low, None if node.ins[2] is None else t.alloc(size, width, "gradient of B"))


def factor(t: Tape, x: Tensor, weight: Tensor, n: Any, what: str, name: str, at: int, rows: Any) -> Tensor:
    """The product with one factor of an adapter: the ``at``-th of the module ``name``."""
    return product(t, x, weight, None, n, what, False, f"{name}.adapter_{at}", products.ADAPTER, rows)


def other_adapter(m: Machine, x: Tensor, lin: Linear, rows: Any, spec: LoraSpec, result: Tensor) -> Tensor:
    """An adapter whose operations are not simulated: its input in its own width, one product, added to the output."""
    t, w = m.t, result.w
    trained = m.param(f"{lin.name}.adapter", spec.other, spec.width, True)
    made = product(t, ops.to(t, x, spec.width), trained, None, rows * lin.d_out, "adapter output", part=UNLOGGED)
    if t.work is not None:
        products.adapter(t, made, lin.name, rows, spec.work)
    result = ops.add(t, result, made, "output with adapter")
    del made
    return ops.to(t, result, w)


def dora(m: Machine, x: Tensor, lin: Linear, rows: Any, spec: LoraSpec, result: Tensor, a: Param, b: Param) -> Tensor:
    """peft tuners/lora/dora.py: W + B A is written out in fp32 for its norm, from an identity matrix of the inputs."""
    t = m.t
    w, n = result.w, lin.d_in * lin.d_out
    x = ops.to(t, x, spec.width)
    if spec.dropout and not m.drops.silent:
        x = ops.dropout(t, x)
    with t.no_autocast():
        identity = t.alloc(lin.d_in * lin.d_in, spec.width, "identity matrix")
        low = factor(t, identity, a, lin.d_in * spec.rank, "LoRA A(identity)", lin.name, 2, lin.d_in)
        delta = factor(t, low, b, n, "LoRA weight", lin.name, 3, lin.d_in)
        del low, identity
    kind = m.packed(lin.name)
    packed = None
    if kind:
        packed = t.alloc(n, F32, "unpacked weight") if kind == INT8 else unpack(t, n, kind == "nested")
    weight = t.alloc(n, spec.width, "weight in fp32") if w != spec.width else None
    del packed
    scaled = t.alloc(n, spec.width, "LoRA weight, scaled")
    summed = t.alloc(n, spec.width, "weight and LoRA")
    del scaled
    norms = t.alloc(lin.d_out, spec.width, "weight norms")
    del summed
    magnitude = m.param(f"{lin.name}.lora_magnitude_vector", lin.d_out, spec.width, True)
    scale = t.emit("magnitude over norm", lin.d_out, spec.width, (magnitude,), ops.fresh_bwd, norms.st)
    low = factor(t, x, a, rows * spec.rank, "LoRA A(x)", lin.name, 0, rows)
    high = factor(t, low, b, rows * lin.d_out, "LoRA B(A(x))", lin.name, 1, rows)
    del low
    base = result
    if spec.dropout:  # the base's output is not its output for the dropped input, which is computed again
        whole = m.weight(lin)[0] if weight is None else weight
        base = product(t, x, whole, None, rows * lin.d_out, "output for the dropped input", part=UNLOGGED)
        del whole
    elif lin.bias:
        base = ops.add(t, result, m.param(f"{lin.name}.bias", lin.d_out), "output less bias")
    first = ops.mul(t, ops.shift(t, scale), base, "DoRA of the output")
    second = ops.scale(t, ops.mul(t, scale, high, "DoRA of the adapter"), "DoRA of the adapter")
    made = ops.add(t, first, second, "DoRA output")
    del first, second, high, delta, weight, base
    result = ops.add(t, result, made, "output with DoRA")
    del made
    return ops.to(t, result, w)


# rows that gemm_4bit multiplies without unpacking the weight, on any card (bitsandbytes 0.50 backends/cuda/ops.py,
# _GEMM_4BIT_CUSTOM_FLOOR_M; how many more depends on the card and the shapes)
FUSED_ROWS = 4


def packed_linear(m: Machine, x: Tensor, lin: Linear, rows: Any) -> Tensor:
    """bitsandbytes autograd/_functions.py, MatMul4Bit: the weight is unpacked for the product and thrown away."""
    t = m.t
    n = lin.d_in * lin.d_out
    if m.packed(lin.name) == INT8:
        return int8_linear(m.t, x, lin, rows)
    nested = m.packed(lin.name) == "nested"
    bias = m.param(f"{lin.name}.bias", lin.d_out, HALF, False) if lin.bias else None
    w = x.w
    x = ops.to(t, x, HALF)  # Linear4bit.forward: the product runs in compute_dtype
    ins = (x,) if bias is None else (x, bias)
    held = None if rows <= FUSED_ROWS and x.node is None else unpack(t, n, nested)
    out = t.emit("output", rows * lin.d_out, x.w, ins, _packed_bwd, None, (x.n, n, nested))
    del held
    return ops.to(t, out, w)


def unpack(t: Tape, n: Any, nested: bool) -> Tensor:
    """dequantize_4bit: the 16-bit weight; with double quantisation first the scales in fp32."""
    if nested:
        scales = t.alloc(n // NF4_BLOCK, F32, "unpacked scales")
        weight = t.alloc(n, HALF, "unpacked weight")
        del scales
        return weight
    return t.alloc(n, HALF, "unpacked weight")


@moves.moving(moves.nothing, moves.nothing)
def _packed_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    if node.ins[0] is None:
        return tuple(None for _ in node.ins)
    n_x, n, nested = node.extra
    held = unpack(t, n, nested)
    out = t.alloc(n_x, g.w, "gradient of the input")
    del held
    return (out, *(None for _ in node.ins[1:]))


def activation(t: Tape, x: Tensor, name: str) -> Tensor:
    """transformers' ACT2FN[name]."""
    if name in ("silu", "swish"):
        return ops.silu(t, x)
    if name in ("gelu", "gelu_pytorch_tanh", "gelu_python_tanh"):
        return ops.gelu(t, x)
    if name == "relu":
        return ops.relu(t, x)
    if name == "tanh":
        return ops.tanh(t, x)
    if name in ("gelu_new", "gelu_fast"):
        return gelu_new(t, x) if name == "gelu_new" else gelu_fast(t, x)
    if name == "relu2":
        return ops.power(t, ops.relu(t, x))
    if name == "quick_gelu":
        return ops.mul(t, x, ops.sigmoid(t, ops.scale(t, x)))
    return ops.unary(t, x, name, "input")


def gelu_new(t: Tape, x: Tensor) -> Tensor:
    """NewGELUActivation: 0.5 * x * (1 + tanh(c * (x + 0.044715 * x**3))), op by op."""
    return ops.mul(
        t,
        ops.scale(t, x, "half of the input"),
        ops.shift(t, ops.tanh(t, ops.scale(t, ops.add(t, x, ops.scale(t, ops.power(t, x)))))),
        "gelu",
    )


def gelu_fast(t: Tape, x: Tensor) -> Tensor:
    """FastGELUActivation: 0.5 * x * (1 + tanh(x * c * (1 + 0.044715 * x * x)))."""
    half = ops.scale(t, x, "half of the input")
    inner = ops.mul(t, ops.scale(t, x), ops.shift(t, ops.mul(t, ops.scale(t, x), x)))
    return ops.mul(t, half, ops.shift(t, ops.tanh(t, inner)), "gelu")
