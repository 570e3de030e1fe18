"""Methods for which transformers puts a class of its own in place of ``torch.nn.Linear``: EETQ, BitNet, HIGGS, AQLM."""

from __future__ import annotations

from estimator.storage import layouts as lay
from estimator.storage.fields import Fields
from estimator.storage.layouts import Layout
from estimator.storage.schemes import LINEAR_ONLY, Scheme, skips


def _scheme(layout: Layout, what: str, names: list[str] | None, bias: str = "") -> Scheme:
    note = f"{layout.name} as {what} stores it (config)"
    return Scheme(layout.name, layout, "kept", note, bias=bias, **skips(names, LINEAR_ONLY))


def eetq(c: Fields) -> Scheme:
    """EetqConfig: int8 in transformers' EetqLinear, scales and biases in fp16."""
    return _scheme(lay.eetq(), "EETQ", c.names("modules_to_not_convert"), "fp16")


def bitnet(c: Fields) -> Scheme:
    """BitNetQuantConfig: packed ternary weights (bitlinear), or weights that are unpacked as they are loaded."""
    kind = c.one_of("linear_class", ("bitlinear", "autobitlinear"))
    if kind == "autobitlinear":
        return Scheme.nothing("BitNet: transformers' AutoBitLinear unpacks the ternary weights at load (config)")
    return _scheme(lay.bitnet(), "BitNet", c.names("modules_to_not_convert"))


def higgs(c: Fields) -> Scheme:
    """HiggsConfig: bits, group_size."""
    layout = lay.higgs(c.whole("bits", 4, least=2, most=4), c.whole("group_size", 256))
    return _scheme(layout, "HIGGS", c.names("modules_to_not_convert"))


def aqlm(c: Fields) -> Scheme:
    """AqlmConfig: books of codes for groups of inputs and outputs; its list names weights."""
    bits, books = c.whole("nbits_per_codebook", 16, most=24), c.whole("num_codebooks", 1, most=64)
    layout = lay.aqlm(bits, books, c.whole("in_group_size", 8), c.whole("out_group_size", 1))
    kept = [n.removesuffix(".weight") for n in c.names("linear_weights_not_to_quantize") or ["lm_head"]]
    return _scheme(layout, "AQLM", kept)
