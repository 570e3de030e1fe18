"""A load log of llama.cpp read back: what it printed, line by line, beside what is predicted from the log alone.

The metadata stands in the log (``llama_model_loader: - kv``), and so do the context's sizes; from these a model, a mix
and a context are made. Buffers are compared to the printed digit: half of the last one printed. Of a file that is
loaded twice (builds since December 2025 first try whether it fits) the last load counts; of a draft model, none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from estimator.config import Config
from estimator.engines.llamacpp.caches import kept
from estimator.engines.llamacpp.context import BUILD, OUTPUT_FIRST, POOLING, Context
from estimator.engines.llamacpp.load import Holding, Load
from estimator.engines.llamacpp.model import ordered
from estimator.engines.llamacpp.placement import Placement
from estimator.engines.llamacpp.question import known
from estimator.engines.llamacpp.weights import Weights, of_mix
from estimator.errors import InputError
from estimator.families.base import Layer
from estimator.families.common_gguf import encodes
from estimator.headers import FileTensor, Header
from estimator.models import Model
from estimator.records import NamedTuple
from estimator.report import Cell, Node, Report, Table
from estimator.storage.gguf_tensors import pieces
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, KIBI

MARKS = (
    "llama_model_loader:",
    "llm_load_print_meta:",
    "print_info:",
    "llama_context:",
    "llama_new_context_with_model:",
)
DIGITS = 12  # of a number in a log; no count comes near
_KV = re.compile(r"- kv +\d+: +(\S+) +(?:u|i)(?:8|16|32|64) += +(-?\d{1,20})\b")
_TEXT = re.compile(r"- kv +\d+: +(general\.architecture) +str += +(\S+)")
_META = re.compile(r"(?:print_info|llm_load_print_meta): +([\w.]+(?: [\w.]+)*) += +(.+)")
_SETTING = re.compile(r"(?:llama_context|llama_new_context_with_model|llama_init_from_model): +(\w+) += +(\S+)")
_CACHE = re.compile(
    r"size = +(\d+(?:\.\d+)?) MiB \( *(\d+) cells, +(\d+) layers, +(\d+)(?:/\d+)? seqs\), K \((\w+)\): .*V \((\w+)\)"
)
_OLD_CACHE = re.compile(r"KV self size +=  *(\d+(?:\.\d+)?) MiB, K \((\w+)\): +\d+(?:\.\d+)? MiB, V \((\w+)\)")
_BUFFER = re.compile(r"(?<!\S)(\S+) +(model|KV|RS|output|compute) buffer size += +(\d+(?:\.\d+)?) MiB")
_FILE = re.compile(r"loaded meta data with \d+ key-value pairs and \d+ tensors from (\S+)")
_OFFLOADED = re.compile(r"offloaded (\d{1,12})/(\d{1,12}) layers")
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) (MiB|GiB)")
_BUILD = re.compile(r"build(?:: |_info: b)([1-9]\d{0,11})\b")
_COPIES = re.compile(r"n_copies ?= ?(\d{1,2})|sched copies = (\d{1,2})")
_TENSORS = re.compile(r"and (\d{1,12}) tensors")
MIB = KIBI**2
UNITS = {"MiB": MIB, "GiB": KIBI**3}
# "model ftype" as llama.cpp prints it (llama_model_ftype_name) -> the mix
FTYPES = {
    "all F32": "f32", "F16": "f16", "BF16": "bf16", "Q4_0": "q4_0", "Q4_1": "q4_1", "Q5_0": "q5_0", "Q5_1": "q5_1",
    "Q8_0": "q8_0", "Q2_K - Medium": "q2_k", "Q2_K - Small": "q2_k_s", "Q3_K - Small": "q3_k_s",
    "Q3_K - Medium": "q3_k_m", "Q3_K - Large": "q3_k_l", "Q4_K - Small": "q4_k_s", "Q4_K - Medium": "q4_k_m",
    "Q5_K - Small": "q5_k_s", "Q5_K - Medium": "q5_k_m", "Q6_K": "q6_k", "IQ2_XXS - 2.0625 bpw": "iq2_xxs",
    "IQ2_XS - 2.3125 bpw": "iq2_xs", "IQ2_S - 2.5 bpw": "iq2_s", "IQ2_M - 2.7 bpw": "iq2_m",
    "IQ3_XS - 3.3 bpw": "iq3_xs", "IQ3_XXS - 3.0625 bpw": "iq3_xxs", "IQ1_S - 1.5625 bpw": "iq1_s",
    "IQ1_M - 1.75 bpw": "iq1_m", "IQ4_NL - 4.5 bpw": "iq4_nl", "IQ4_XS - 4.25 bpw": "iq4_xs",
    "IQ3_S - 3.4375 bpw": "iq3_s", "IQ3_S mix - 3.66 bpw": "iq3_m", "MXFP4 MoE": "mxfp4_moe",
}  # fmt: skip


class Line(NamedTuple):
    """A printed size: bytes, half of its last digit, and what is predicted (None: not predicted)."""

    what: str
    logged: float
    digit: float
    predicted: float | None

    @property
    def right(self) -> bool:
        return self.predicted is not None and abs(self.predicted - self.logged) <= self.digit


def is_log(text: str) -> bool:
    """Whether a text is a load log of llama.cpp."""
    return any(mark in text for mark in MARKS)


def last_load(text: str) -> str:
    """What stands before the first file, and the last load of that file."""
    found = list(_FILE.finditer(text))
    starts = [text.rfind("\n", 0, m.start()) + 1 for m in found]
    if not found:  # a log whose beginning is gone
        return text
    loads = [(a, b) for m, a, b in zip(found, starts, [*starts[1:], len(text)], strict=True) if m[1] == found[0][1]]
    return text[: starts[0]] + text[slice(*loads[-1])]


def _off(predicted: float, logged: float) -> str:
    """How far a prediction is from what was logged."""
    return f"{100 * (predicted / logged - 1):+.2f}%" if logged else "logged as 0"


def validate(name: str, text: str) -> Report:
    """Predicted beside logged. InputError where the log does not say enough to predict from."""
    text = last_load(text)
    model, mix, said = model_of(name, text)
    load = _load(model, mix, text)
    lines = list(_lines(load, mix, text))
    rows = tuple(
        (x.what, Cell(round(x.logged), BYTES), None if x.predicted is None else Cell(round(x.predicted), BYTES),
         "" if x.predicted is None else "equal" if x.right else _off(x.predicted, x.logged))
        for x in lines
    )  # fmt: skip
    table = Table("Line by line", ("line", "logged", "predicted", ""), rows, "equal: to the printed digit")
    known_lines = [x for x in lines if x.predicted is not None]
    counts = [
        Node("lines", "Lines with a prediction", len(known_lines), COUNT),
        Node("equal", "Equal to the printed digit", sum(x.right for x in known_lines), COUNT),
    ]
    return Report(
        "validate", f"{model.name} {mix}: a load log of llama.cpp beside the prediction", {"file": name},
        (table, Node.group("", counts)), {}, tuple(said),
    )  # fmt: skip


def model_of(name: str, text: str) -> tuple[Model, str, list[str]]:
    """The model that the log's metadata describe, its mix, and what was assumed."""
    from estimator.headers.gguf_config import to_config

    meta: dict[str, Any] = {key: int(value) for key, value in _KV.findall(text)}
    meta |= dict(_TEXT.findall(text))
    printed: dict[str, str] = dict(_META.findall(text))
    if "general.architecture" not in meta:
        meta["general.architecture"] = printed.get("arch", "").strip()
    arch = meta["general.architecture"]
    width = meta.get(f"{arch}.embedding_length")
    vocab = printed.get("n_vocab", "").strip()
    if not width or not (vocab.isascii() and vocab.isdigit() and len(vocab) <= DIGITS):
        raise InputError(f"{name}: the log lacks the lines '- kv' of the metadata or n_vocab: paste the whole load log")
    said = ["the model is made from the log's metadata alone"]
    made: Model | None = None
    for tied in (False, True):
        names = ["token_embd.weight", *(() if tied else ("output.weight",))]
        tensors = tuple(FileTensor(n, "fp16", (int(vocab), width), int(vocab) * width, 0) for n in names)
        raw, notes = to_config(Header(name, "gguf", tensors, meta))
        if raw is None:
            raise InputError(notes[0])
        tried = Model(printed.get("general.name", arch).strip(), "file", Config(raw, where=name))
        found = _TENSORS.search(text)
        if found is None or _tensors(tried) == int(found[1]) or made is None:
            made = tried
        if found is not None and _tensors(tried) == int(found[1]):
            break
    assert made is not None
    ftype = printed.get("file type", printed.get("model ftype", "")).strip()
    mix = FTYPES.get(ftype.removesuffix(" (guessed)").removeprefix("(guessed) "))
    if mix is None:
        raise InputError(f"{name}: file type {ftype[:40]!r} is not known; the log needs 'file type' or 'model ftype'")
    return made, mix, said


def _tensors(model: Model) -> int:
    """Tensors of the file: a fused gate and up of experts are two."""
    total = 0
    for p in pieces(model.architecture):
        w = p.weight
        parts = (
            int(value_of(p.matrices.count)) // int(value_of(w.shape[0]))
            if len(w.shape) == 3 and p.kind != "plain"
            else 1
        )
        total += int(value_of(w.times)) * max(1, parts)
    return total


def _load(model: Model, mix: str, text: str) -> Load:
    """The load that the log describes."""
    said = dict(_SETTING.findall(text))
    weights: Weights = of_mix(model.architecture, mix, False, _build(text))
    cache = _CACHE.search(text)
    old = _OLD_CACHE.search(text)
    k, v = (cache[5], cache[6]) if cache else (old[2], old[3]) if old else ("f16", "f16")
    if "n_ctx" not in said:
        raise InputError("the log has no line 'n_ctx = ...' of the context: paste the whole load log")

    def count(key: str, default: int = 0, least: int = 1) -> int:
        text = said.get(key, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= DIGITS and int(text) >= least):
            raise InputError(f"the log says {key} = {text[:40]!r}: not a whole number of at least {least}")
        return int(text)

    context = Context(
        count("n_ctx"), count("n_seq_max", 1), count("n_batch", 2048), count("n_ubatch", 512), k.lower(),
        v.lower(), said.get("flash_attn", "0") not in ("0", "false", "disabled"),
        unified=said.get("kv_unified", "true") in ("1", "true"),
        outputs=count("n_outputs_max", 0, 0) or None, build=_build(text), pooling=_pooling(model, text),
        cached=known(model).sided,
    )  # fmt: skip
    load = Load(model.name, model.architecture, known(model), context, weights, Placement(len(weights.layers)))
    return replace(load, place=_place(load, text))


def _pooling(model: Model, text: str) -> str:
    """How an encoder's rows become one, as the metadata say; "" for a decoder."""
    if not encodes(model.architecture):
        return ""
    said = dict(_META.findall(text)).get("pooling type", "").strip()
    return POOLING[int(said)] if said in map(str, range(len(POOLING))) else "mean"


def _place(load: Load, text: str) -> Placement:
    """Where the layers lie: as many on each device as make its logged caches and states."""
    n, found, names = load.place.layers, _OFFLOADED.search(text), devices_of(text)
    if found is None or not names:
        return load.place
    offloaded = min(int(found[1]), n + 1)
    logged = dict.fromkeys(names, 0.0)
    for name, what, value in _BUFFER.findall(text):
        if name in logged and what in ("KV", "RS"):
            logged[name] += float(value) * MIB
    place = Placement(n, offloaded, output_last=load.context.build < OUTPUT_FIRST)
    each = [_kept(load, layer) for layer in ordered(load.arch)][place.first :]
    shares, at = [], 0
    for name in names[:-1]:
        start, total = at, 0.0
        while at < len(each) and total + each[at] / 2 < logged[name]:
            total, at = total + each[at], at + 1
        shares.append(float(at - start))
    copies = [int(a or b) for a, b in _COPIES.findall(text)]
    return replace(place, shares=(*shares, float(offloaded - at)), overlaps=copies[-1] > 1 if copies else True)


def devices_of(text: str) -> list[str]:
    """The names of the devices that hold buffers, in llama.cpp's order."""
    found = {name for name, _, _ in _BUFFER.findall(text) if not _is_host(name)}
    return sorted(found, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def _is_host(name: str) -> bool:
    return name.upper().startswith(("CPU", "HOST")) or name.upper().endswith("_HOST")


def _kept(load: Load, layer: Layer) -> float:
    """Bytes that a layer keeps between passes."""
    return sum(float(value_of(k.bytes)) for k in kept(layer, load.arch, load.gguf, load.context, 1))


def _build(text: str) -> int:
    """The build that the log names, else the one that was measured."""
    found = _BUILD.search(text)
    return int(found[1]) if found else BUILD


def _lines(load: Load, mix: str, text: str) -> Iterator[Line]:
    """Every size that the log prints, with what is predicted of it."""
    printed: dict[str, str] = dict(_META.findall(text))
    size = _SIZE.search(printed.get("file size", printed.get("model size", "")))
    if size:
        unit = UNITS[size[2]]
        yield Line("model size", float(size[1]) * unit, _half(size[1]) * unit, float(value_of(load.weights.total)))
    caches = [k for x in load.arch.layers for k in kept(x, load.arch, load.gguf, load.context)]
    total = sum(float(value_of(c.bytes)) for c in caches if c.kind != "recurrent")
    found = [m[1] for m in _CACHE.finditer(text)] or [m[1] for m in _OLD_CACHE.finditer(text)]
    if found:
        logged = sum(float(x) for x in found) * MIB
        yield Line("KV cache, all layers", logged, len(found) * _half(found[0]) * MIB, total)
    held = {"": load.host, **dict(zip(devices_of(text), load.devices, strict=False))}
    buffers: dict[tuple[str, str], list[str]] = {}
    for name, what, value in _BUFFER.findall(text):
        buffers.setdefault((name, what), []).append(value)
    for (name, what), values in buffers.items():  # a window's cache and the full one are printed one by one
        logged, digit = sum(map(float, values)) * MIB, sum(map(_half, values)) * MIB
        yield Line(f"{name} {what} buffer", logged, digit, _buffer(held, name, what))


def _buffer(held: dict[str, Holding], name: str, what: str) -> float | None:
    """The bytes of one printed buffer, or None where the place is not known."""
    place = held.get("" if _is_host(name) else name)
    if place is None:
        return None
    columns = {"model": place.weights, "KV": place.cache, "RS": place.states, "compute": place.compute}
    return float((columns | {"output": place.output})[what])


def _half(text: str) -> float:
    """Half of the last digit of a printed number."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])
