"""Pruning and quantisation arithmetic: multiply-adds left, levels, bits a weight, scale and zero point."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from estimator.errors import InputError
from estimator.formulas import compress as f
from estimator.models import Model
from estimator.report import Node, Report
from estimator.sizes import as_number, letter_or_size
from estimator.trace import trace, value_of
from estimator.units import BITS, BYTES, COUNT, MACS, RATIO, parse_number

MAX_BITS = 64
CONV = ("c_o", "h_o", "w_o", "k_h", "k_w", "c_i")
MEANINGS = {
    "c_o": "output channels", "h_o": "output height", "w_o": "output width", "k_h": "kernel height",
    "k_w": "kernel width", "c_i": "input channels", "p": "pruned share of the channels", "n": "bits of a code",
    "m": "weights a block", "w_s": "bits of a block's scale", "w_z": "bits of a block's zero point",
    "r_min": "least real value", "r_max": "greatest real value", "q_min": "least code", "q_max": "greatest code",
}  # fmt: skip


def prune(channels: str | None, weights: str | None, conv: str | None, traced: bool = False) -> Report:
    """Multiply-adds left after pruning a share of all channels, or of single weights.

    conv: ``c_o,h_o,w_o,k_h,k_w,c_i`` as numbers or letters. Shares lie in [0, 1).
    """
    if (channels is not None and weights is not None) or (channels is weights is conv is None):
        raise InputError("give one of --channels SHARE and --weights SHARE, or --conv c_o,h_o,w_o,k_h,k_w,c_i")
    share = _share(channels, "--channels") if channels is not None else _share(weights or "0", "--weights")
    rows: list[Node] = []
    assumptions: list[str] = []
    symbolic = False
    macs: Any = None
    if conv is not None:
        sizes, symbolic = _conv(conv, traced)
        macs = f.conv_macs(*sizes)
        rows.append(Node("macs", "Multiply-adds of the convolution", macs, MACS, formula=f.conv_macs))
    if channels is not None:
        p: Any = trace("p", share, integer=False) if traced and share else share
        ratio = f.channel_pruned_ratio(p)
        note = "both the input and the output channels shrink"
        rows.append(Node("macs_ratio", "Multiply-adds left", ratio, RATIO, note=note, formula=f.channel_pruned_ratio))
    elif weights is not None:
        rows.append(Node("macs_ratio", "Multiply-adds executed", 1, RATIO, note="masked weights are still multiplied"))
        rows.append(Node("nonzero_ratio", "Weights left", 1 - share, RATIO))
        assumptions.append(
            "single weights are only masked: dense kernels multiply zeros too, so the time stays constant unless "
            "the hardware skips them (2:4 sparsity)"
        )
    shares = {"channels": channels, "weights": weights, "conv": conv}
    percent = f"{float(100 * share):g}%"
    what = f"{percent} of all channels" if channels is not None else f"{percent} of the weights" if weights else ""
    title = f"Pruning {what}" if what else "A convolution"
    body = (Node.group("", rows),)
    return Report("compress prune", title, shares, body, {}, tuple(assumptions), symbolic=symbolic, letters=MEANINGS)


def _share(text: str, flag: str) -> Fraction:
    share = parse_number(text, flag)
    if not 0 <= share < 1:
        raise InputError(f"{flag} must be a share in [0, 1), got {text}")
    return share


def _conv(text: str, traced: bool) -> tuple[list[Any], bool]:
    words = [w.strip() for w in text.split(",")]
    if len(words) != len(CONV):
        raise InputError(f"--conv: expected six sizes {','.join(CONV)}, got {len(words)}")
    letters = [w for w in words if w.isidentifier()]
    return [letter_or_size(w, "--conv", name, traced) for w, name in zip(words, CONV, strict=True)], bool(letters)


def quantize(
    bits: str, block: int, scale_bits: int = 16, zero_bits: int = 0, model: Model | None = None, traced: bool = False
) -> Report:
    """Levels and exact bits a weight of ``bits``-bit codes in blocks; with a model, the bytes of its weights."""
    n = letter_or_size(bits, "--bits", "n", traced)
    symbolic = bits.strip().isidentifier()
    if not symbolic and value_of(n) > MAX_BITS:
        raise InputError(f"--bits must be at most {MAX_BITS}, got {value_of(n)}")
    if block < 1 or scale_bits < 0 or zero_bits < 0:
        raise InputError("--block must be >= 1, --scale-bits and --zero-bits >= 0")
    m: Any = trace("m", block) if traced else block
    w_s: Any = trace("w_s", scale_bits) if traced and scale_bits else scale_bits
    w_z: Any = trace("w_z", zero_bits) if traced and zero_bits else zero_bits
    rows = [
        Node.of("levels", "Distinct values", f.quantisation_levels, n),
        Node.of("bits_per_weight", "Bits a weight, scales included", f.block_bits, n, m, w_s, w_z),
    ]
    assumptions = []
    if model is not None and not symbolic:
        rows += _model_rows(model, n, m, w_s, w_z)
        assumptions.append("matrices of the layers are quantised; embeddings, head, norms and biases stay 16-bit")
    inputs = {"bits": as_number("bits", bits), "block": block, "scale_bits": scale_bits, "zero_bits": zero_bits}
    title = f"{bits}-bit codes in blocks of {block:,}"
    return Report(
        "compress quantize",
        title,
        inputs,
        (Node.group("", rows),),
        {},
        tuple(assumptions),
        symbolic=symbolic,
        letters=MEANINGS,
    )


def _model_rows(model: Model, n: Any, m: Any, w_s: Any, w_z: Any) -> list[Node]:
    from estimator.inventory import CONV1D, EXPERT, LINEAR, ROUTER
    from estimator.ops import ceil_div
    from estimator.units import BITS_PER_BYTE

    coded: Any = 0
    plain: Any = 0
    for w in model.architecture.weights():
        if w.role in (LINEAR, CONV1D, EXPERT, ROUTER) and not w.is_bias and w.role != ROUTER:
            coded += w.times * (w.elements * n + ceil_div(w.elements, m) * (w_s + w_z))
        else:
            plain += w.total * 16
    parts = [
        Node("", "Quantised matrices", ceil_div(coded, BITS_PER_BYTE), BYTES),
        Node("", "Kept in 16 bits", ceil_div(plain, BITS_PER_BYTE), BYTES),
    ]
    return [Node.sum("weights_bytes", f"Weights of {model.name}", parts)]


def linear(rmin: str | float, rmax: str | float, bits: int, signed: bool = True, traced: bool = False) -> Report:
    """Scale and zero point of linear quantisation of [rmin, rmax] to ``bits`` bits."""
    low, high = parse_number(str(rmin), "--rmin"), parse_number(str(rmax), "--rmax")
    if low >= high:
        raise InputError(f"--rmin must be less than --rmax, got {rmin} and {rmax}")
    if not 1 <= bits <= MAX_BITS:
        raise InputError(f"--bits must be between 1 and {MAX_BITS}, got {bits}")
    q_min, q_max = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def t(name: str, value: Any) -> Any:
        return trace(name, value, integer=False) if traced else value

    lo, hi, ql, qh = t("r_min", low), t("r_max", high), t("q_min", q_min), t("q_max", q_max)
    scale = f.linear_scale(hi, lo, qh, ql)
    zero = f.linear_zero(lo, ql, scale)
    rows = [
        Node("scale", "Scale S", scale, RATIO, formula=f.linear_scale),
        Node("zero_unrounded", "Zero point before rounding", zero, RATIO, formula=f.linear_zero),
        Node("zero_point", "Zero point Z", round(value_of(zero)), COUNT, note="rounded to the nearest integer"),
        Node("q_min", "Least code", q_min, COUNT),
        Node("q_max", "Greatest code", q_max, COUNT),
        Node("levels", "Distinct values", f.quantisation_levels(bits), COUNT),
        Node("bits", "Bits", bits, BITS),
    ]
    notes: tuple[str, ...] = ()
    if not q_min <= value_of(rows[2].value) <= q_max:
        notes = ("0 lies outside [rmin, rmax]: the zero point is no code; widen the range to hold 0",)
    sign = "signed" if signed else "unsigned"
    title = f"Linear quantisation of [{rmin}, {rmax}] to {bits} bits, {sign}"
    inputs = {"rmin": rmin, "rmax": rmax, "bits": as_number("bits", bits), "signed": signed}
    return Report("compress linear", title, inputs, (Node.group("", rows),), {}, notes, (), notes, letters=MEANINGS)
