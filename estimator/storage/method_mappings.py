"""``quantization_config`` of each method to a :class:`Scheme`: what the library that reads it does with its fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.formulas.storage import FP32
from estimator.inventory import HEAD
from estimator.storage import layouts as lay
from estimator.storage.auto_round import auto_round
from estimator.storage.compressed import compressed_tensors
from estimator.storage.fields import Fields, bits_of, group_of, grouping, named
from estimator.storage.layouts import Layout
from estimator.storage.matching import Match, transformers_match
from estimator.storage.modelopt import modelopt, quark
from estimator.storage.replaced import aqlm, bitnet, eetq, higgs
from estimator.storage.schemes import LINEAR_ONLY, LINEARS, MLX_TOUCHES, SCHEMES, Scheme, sees_or_hears, skips
from estimator.storage.torchao import torchao


def bitsandbytes(c: Fields) -> Scheme:
    """BitsAndBytesConfig: nf4 or fp4 with or without double quantisation, or LLM.int8()."""
    four = c.flag("load_in_4bit") or c.flag("_load_in_4bit")
    if not four and (c.flag("load_in_8bit") or c.flag("_load_in_8bit")):
        name = "int8"
    else:
        kind = c.one_of("bnb_4bit_quant_type", ("fp4", "nf4"))
        double = c.flag("bnb_4bit_use_double_quant")
        name = f"{kind}{'-dq' if double else ''}"
    return replace(
        SCHEMES[name], note=f"{name} as bitsandbytes stores it (config)", **skips(c.names("llm_int8_skip_modules"))
    )


def fp8(c: Fields) -> Scheme:
    """FineGrainedFP8Config: a scale a tile of ``weight_block_size``, or a matrix; one of the inputs where static."""
    tile = c.tile("weight_block_size")
    static = FP32 if c.text("activation_scheme", "dynamic") == "static" else 0
    scale = 1 if c.text("scale_fmt") == "ue8m0" else FP32
    if tile is not None:
        rows, columns = tile
        layout = lay.tiled(columns, rows, scale, static, "fp8-block")
        what = f"fp8 with a scale for each {rows} x {columns} tile"
    else:
        layout, what = lay.tiled(extra=static), "fp8 with one scale a matrix"
    names = c.names("modules_to_not_convert", "ignored_layers")
    rules: tuple[tuple[Match, Layout | None], ...] = ()
    if c.text("expert_dtype") == "fp4":  # FP8Experts: two weights a byte, a scale for each 32
        rules, what = ((lambda name: ".experts." in name, lay.mxfp4()),), f"{what}, its experts in mxfp4"
    return Scheme(
        layout.name, layout, "each", f"{what} (config)", subclasses=False, rules=rules, **skips(names, LINEAR_ONLY)
    )


def fbgemm_fp8(c: Fields) -> Scheme:
    """FbgemmFp8Config: fp8, an fp32 scale an output row, biases in fp32."""
    layout = lay.tiled(0, 1, name="fp8")
    what = "fp8 with an fp32 scale a row (fbgemm, config)"
    made = skips(c.names("modules_to_not_convert"), LINEAR_ONLY)
    return Scheme("fbgemm-fp8", layout, "each", what, bias="fp32", **made)


def gptq(c: Fields) -> Scheme:
    """GPTQConfig and GPTQModel's: bits, group_size, ``dynamic`` rules, lists of modules."""
    bits, group = bits_of(c), group_of(c)
    name = named("gptq", bits, group)
    layout = lay.gptq(bits, group, name)
    touches = LINEARS | {HEAD} if c.flag("lm_head") else LINEARS
    skip = transformers_match(c.names("modules_to_not_convert") or ())
    said = () if c.text("checkpoint_format", "gptq") in ("gptq", "gptq_v2", "") else (
        f"WARNING: {c.where}: checkpoint_format {c.text('checkpoint_format')[:20]!r}: counted in GPTQ's own layout",
    )  # fmt: skip
    return Scheme(
        name, layout, "each", f"GPTQ, {bits} bits, {grouping(group)} (config)", touches, skip=skip,
        rules=_dynamic(c, bits, group), only=_blocks(c), notes=said,
    )  # fmt: skip


def _dynamic(c: Fields, bits: int, group: int) -> tuple[tuple[Match, Layout | None], ...]:
    """GPTQModel's ``dynamic``: regular expressions with ``-:`` (stays) or ``+:`` (other bits or group)."""
    from estimator.storage.matching import exact_or_regex

    rules: list[tuple[Match, Layout | None]] = []
    found = c.group("dynamic")
    for pattern, value in (found.raw if found else {}).items():
        text = str(pattern)
        match = exact_or_regex([f"re:{text.removeprefix('-:').removeprefix('+:')}"])
        if text.startswith("-:"):
            rules.append((match, None))
            continue
        own = Fields(value if isinstance(value, dict) else {}, f"{c.where}: dynamic")
        b, g = bits_of(own, bits), group_of(own, group)
        rules.append((match, lay.gptq(b, g, named("gptq", b, g))))
    return tuple(rules)


def _blocks(c: Fields) -> Match | None:
    """optimum's modules_in_block_to_quantize: groups of names inside a layer; only they are quantised."""
    value = c.raw.get("modules_in_block_to_quantize")
    if not isinstance(value, list) or not value:
        return None
    flat = [n for item in value for n in (item if isinstance(item, list) else [item]) if isinstance(n, str)]
    return transformers_match(f".{n}" for n in flat) if flat else None


def awq(c: Fields) -> Scheme:
    """AwqConfig: bits, group_size; the list of modules that stay is beside the output layer."""
    bits, group = bits_of(c), group_of(c)
    name = named("awq", bits, group)
    version = c.text("version", "gemm").lower()
    said = () if version in ("gemm", "", "auto") else (
        f"WARNING: {c.where}: version {version[:20]!r}: counted in the GEMM layout",
    )  # fmt: skip
    return Scheme(
        name, lay.awq(bits, group, name), "each", f"AWQ, {bits} bits, {grouping(group)} (config)", LINEAR_ONLY,
        skip=transformers_match(c.names("modules_to_not_convert") or ()), notes=said,
    )  # fmt: skip


def mxfp4(c: Fields) -> Scheme:
    """Mxfp4Config: the routed experts in MXFP4."""

    return Scheme(
        "mxfp4", lay.mxfp4(), "only", "mxfp4 on the routed experts (config)",
        skip=transformers_match(c.names("modules_to_not_convert") or ()),
    )  # fmt: skip


def hqq(c: Fields) -> Scheme | None:
    """HqqConfig: one quant_config for all, or one a linear tag (``self_attn.q_proj``)."""
    inner = c.group("quant_config")
    if inner is None:
        return None
    skip = c.names("skip_modules")
    skipped = frozenset(["lm_head"] if skip is None else skip)
    touches = LINEAR_ONLY if "lm_head" in skipped else LINEAR_ONLY | {HEAD}
    whole = inner.group("weight_quant_params")
    rules: list[tuple[Match, Layout | None]] = [(lambda name: _tag(name) in skipped, None)]
    if whole is None:
        for tag in inner.raw:
            own = inner.group(str(tag))
            params = own.group("weight_quant_params") if own else None
            if params is not None:
                rules.append((_tagged(str(tag)), _hqq_layout(params)))
        layout = lay.hqq()
        rules.append((lambda name: True, None))
    else:
        layout = _hqq_layout(whole)
    return Scheme("hqq", layout, "each", f"{layout.name} as HQQ stores it (config)", touches, rules=tuple(rules))


def _tag(name: str) -> str:
    return ".".join(p for p in name.split(".") if p not in ("model", "layers") and not p.isnumeric())


def _tagged(tag: str) -> Match:
    return lambda name: _tag(name) == tag


def _hqq_layout(c: Fields) -> Layout:
    bits = bits_of(c)
    group, axis = c.whole("group_size", -1, least=-1), c.whole("axis", 0, least=0, most=1)
    bits = bits if bits in lay.HQQ_PACKING else 8
    return lay.hqq(bits, group, axis, named("hqq", bits, group))


def mlx(c: Fields) -> Scheme | None:
    """MLX's ``quantization``: bits and group_size for all, and for paths of modules; false leaves one alone."""
    layout = _mlx_layout(c)
    if layout is None:
        return None
    rules: list[tuple[Match, Layout | None]] = []
    for name, value in c.raw.items():
        if value is False or isinstance(value, dict):
            own = None if value is False else _mlx_layout(Fields({**_shared(c), **value}, c.where))
            rules.append((_exactly(str(name)), own))
    rules.append((sees_or_hears, None))
    group = c.whole("group_size", 64)
    return Scheme(
        layout.name, layout, "each", f"{layout.name} as MLX stores it (config): embeddings and output layer too",
        MLX_TOUCHES, rules=tuple(rules), divides=group,
    )  # fmt: skip


def _shared(c: Fields) -> dict[str, Any]:
    return {k: v for k, v in c.raw.items() if k in ("bits", "group_size", "mode")}


def _exactly(path: str) -> Match:
    last = path.rpartition(".")[2]
    stack = path.replace(".switch_mlp.", ".experts.0.") if ".switch_mlp." in path else path
    return lambda name: name in (path, stack) or (last == "lm_head" and name.endswith("lm_head"))


def _mlx_layout(c: Fields) -> Layout | None:
    mode = c.text("mode", "affine")
    if mode == "mxfp4":
        return lay.mxfp4()
    if mode == "nvfp4":
        return lay.nvfp4(-FP32, lay.WEIGHT_ONLY)  # MLX keeps no scale a matrix
    if mode == "mxfp8":
        return lay.mxfp8(lay.WEIGHT_ONLY)
    if mode != "affine":
        return None
    bits, group = bits_of(c), c.whole("group_size", 64)
    return lay.mlx(bits, group, named("mlx", bits, group))


READERS: dict[str, Any] = {
    "bitsandbytes": bitsandbytes, "fp8": fp8, "finegrained_fp8": fp8, "fbgemm_fp8": fbgemm_fp8, "gptq": gptq,
    "gptqmodel": gptq, "awq": awq, "auto-round": auto_round, "intel/auto-round": auto_round, "mxfp4": mxfp4,
    "compressed-tensors": compressed_tensors, "modelopt": modelopt, "modelopt_fp4": modelopt, "torchao": torchao,
    "hqq": hqq, "quark": quark, "mlx": mlx, "eetq": eetq, "bitnet": bitnet, "higgs": higgs, "aqlm": aqlm,
}  # fmt: skip
__all__ = ["READERS"]
