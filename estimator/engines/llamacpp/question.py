"""From the options of a question to a loaded model: llama.cpp's own defaults where nothing is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.card import Card, Range
from estimator.engines.asked import PLAIN
from estimator.engines.llamacpp.caches import CACHE_TYPES, check
from estimator.engines.llamacpp.cards import cards_of
from estimator.engines.llamacpp.context import (
    BUILD,
    HALVED,
    MAX_SEQUENCES,
    MEASURED,
    N_BATCH,
    N_UBATCH,
    OUTPUT_FIRST,
    POOLING,
    ROTATING,
    Context,
)
from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.lora import adapters_of
from estimator.engines.llamacpp.overrides import layers_on_host
from estimator.engines.llamacpp.placement import Placement, split_evenly
from estimator.engines.llamacpp.weights import Weights, of_header, of_mix
from estimator.errors import InputError
from estimator.families.common_gguf import ENCODER_ROWS, Gguf, encodes, graph_of
from estimator.fit import Fit
from estimator.names import choice
from estimator.questions.base import Unsaid, refuse_beyond
from estimator.records import dataclass
from estimator.sizes import size_option
from estimator.storage.gguf_dynamic import HIGH, LOW, nearest
from estimator.storage.gguf_dynamic import said as dynamic
from estimator.storage.gguf_mix import MIXES, PLAIN_TYPES, mix_notes
from estimator.trace import value_of
from estimator.units import BYTES, human, parse_memory

DEFAULT_TOKENS = 4096
MXFP4 = "mxfp4_moe"
OWN = (
    "engine_version", "ctx_size", "parallel", "logical_batch", "ubatch_size", "flash_attn", "cache_type_k",
    "cache_type_v", "swa_full", "kv_unified", "pooling", "outputs", "gpu_layers", "cpu_moe", "override_tensor",
    "tensor_split", "no_kv_offload", "host", "imatrix", "mmproj", "model_draft", "lora", "ram", "gpus",
)  # fmt: skip
_TYPES = {"fp16": "f16", "fp32": "f32", "float16": "f16", "bfloat16": "bf16", "float32": "f32"}
ALL = ("all", "auto", "-1")
EARLIER = 4000  # a build of autumn 2024, whose quantizer most published files of that time were made by


@dataclass(frozen=True)
class Asked:
    """A question read: the load, the cards by device, what was assumed, and the host's part beside its memory."""

    load: Load
    cards: tuple[Card, ...]
    mix: str
    said: tuple[str, ...]
    ram: Fit | None = None


def asked(q: Any, mix: str | None = None) -> Asked:
    """What the question asks to be loaded. InputError for options of other engines and for what cannot be."""
    own = "llama.cpp. Its own: --ctx-size, --parallel, --gpu-layers, --cache-type-k ... (llmcalc memory --help)"
    refuse_beyond(q, {*PLAIN, *OWN}, own)
    model = q.model
    if model.kind == "symbolic":
        raise InputError("--engine llama.cpp lays a graph out in bytes: --model symbolic has no sizes")
    said = [build_said(build_of(q))]
    q, tower = text_alone(q, said)
    model, gguf = q.model, known(q.model)
    context = context_of(q, said)
    check(model.architecture, context)  # before its layers are looked at one by one
    named = mix or mix_of(q, said)
    chosen = nearest(named, MIXES) or named
    weights = weights_of(q, chosen, said)
    if chosen != named:
        said.append(dynamic(named, chosen))
        weights = replace(weights, spread=(LOW, HIGH))
    cards = cards_of(q)
    layers = len(weights.layers)
    place = placement(q, layers, cards, said)
    load = Load(
        model.name, model.architecture, gguf, context, weights, place, bool(q.no_kv_offload), tower,
        draft_of(q, place, said), adapters_of(model, gguf, q.lora, said),
    )  # fmt: skip
    ram = None
    if q.ram is not None and all(c.machine is None for c in cards):
        there = parse_memory(str(q.ram), "--ram")
        ram = Fit(Range(*(load.host.total,) * 3), there, "the host")
    return Asked(load, cards, chosen, (*said, *weights.notes, *weights.storage.notes), ram)


def build_of(q: Any) -> int:
    """The build of ``--engine-version b4701``."""
    if q.engine_version is None:
        return BUILD
    text = str(q.engine_version).strip().lower().removeprefix("b")
    if not (text.isdigit() and len(text) <= 9) or int(text) > 10**6:
        raise InputError(f"--engine-version {str(q.engine_version)[:40]}: llama.cpp's builds are numbers: b{BUILD}")
    return int(text)


def build_said(build: int) -> str:
    """What a build's numbers rest on."""
    if build >= HALVED:
        return f"llama.cpp build {build}, measured on {BUILD}; older ones (--engine-version) reserve all rows of logits"
    more = "" if build >= ROTATING else " and no rotation"
    shown = "measured builds" if build >= MEASURED else "public logs of 2024 and 2025"
    return f"llama.cpp build {build}: all rows of logits, f32 masks{more}, as {shown} show"


def text_alone(q: Any, said: list[str]) -> tuple[Any, int]:
    """The question of a multimodal model's text, and the bytes of its towers' own file where --mmproj asks for it."""
    towers = q.model.architecture.towers
    if not towers:
        if q.mmproj is not None:
            raise InputError(f"--mmproj {q.mmproj}: {q.model.name} has no tower beside its text")
        return q, 0
    kind = choice(str(q.mmproj or "f16").lower(), "--mmproj", ("f16", "bf16", "f32"))
    wide = 4 if kind == "f32" else 2
    size = sum(int(value_of(w.total)) * (wide if len(w.shape) > 1 else 4) for t in towers for w in t.weights())
    if q.mmproj is None:
        said.append(f"the text alone; its tower takes about {human(size, BYTES)} more (--mmproj f16)")
    else:
        said.append("the tower: its weights, matrices in 16 bits and vectors in fp32; its compute buffer is not known")
    return replace(q, model=replace(q.model, part="text")), 0 if q.mmproj is None else size


def draft_of(q: Any, place: Placement, said: list[str]) -> Load | None:
    """The load of a draft model: the same context, in its own mix or the model's, placed as the model is."""
    if q.model_draft is None:
        return None
    from estimator.models import load_model

    name, _, mix = str(q.model_draft).rpartition(":")
    named = bool(name) and (mix.lower() in MIXES or mix.lower() in PLAIN_TYPES)
    model = load_model(name if named else str(q.model_draft))
    given = mix.lower() if named else None if model.mix else q.quantization
    alone = replace(
        q, model=model, quantization=given, model_draft=None, lora=None, mmproj=None, cpu_moe=None,
        override_tensor=None, gpu_layers="all" if place.offloaded else "0",
    )  # fmt: skip
    said.append("--model-draft: its memory alone; what it saves depends on how many of its tokens are accepted")
    found = asked(alone).load
    return replace(found, place=replace(found.place, shares=place.shares))


def known(model: Any) -> Gguf:
    """What llama.cpp makes of the model's family; InputError where it has no such architecture."""
    found = graph_of(model)
    if found is None:
        what = model.architecture.model_type
        raise InputError(f"{model.name}: llama.cpp's graph of a {what} is not written down; --engine transformers")
    return found


def context_of(q: Any, said: list[str]) -> Context:
    """The context: sizes, cache types, switches."""
    model = q.model
    pooling = _pooling(q, said)
    given = q.parallel if q.parallel is not None else q.batch_size
    sequences = _size(q, given, "--parallel", "batch_size")
    if sequences > MAX_SEQUENCES:
        raise InputError(
            f"llama.cpp takes at most {MAX_SEQUENCES} sequences, got {sequences:,}; its own -b is --logical-batch here"
        )
    k, v = (_cache_type(q, which) for which in "kv")
    build = build_of(q)
    rows = "all" if q.outputs is None and build < HALVED else q.outputs
    sided = known(model).sided
    if sided or (rows is None and pooling):
        rows = "all"
    elif rows is None:
        said.append("--outputs not given: a row of logits a sequence, as the server asks for")
    flash = choice(q.flash_attn or "auto", "--flash-attn", ("on", "off", "auto", "1", "0", "true", "false"))
    tokens = _tokens(q, model, sequences, said)
    made = Context(
        tokens, sequences,
        N_BATCH if q.logical_batch is None else _size(q, q.logical_batch, "--logical-batch", "tokens", "length"),
        N_UBATCH if q.ubatch_size is None else _size(q, q.ubatch_size, "--ubatch-size", "tokens", "length"),
        k, v, flash not in ("off", "0", "false"), bool(q.swa_full), bool(q.kv_unified),
        None if rows == "all" else sequences if rows is None else _size(q, rows, "--outputs", "tokens"),
        build, pooling, sided,
    )  # fmt: skip
    if pooling:
        said.append(f"an encoder reads a text in one micro-batch: {made.ubatch:,} tokens (-ub, --logical-batch)")
    return made


def _pooling(q: Any, said: list[str]) -> str:
    """How an encoder's rows become one: as given, as its file says, else the mean; "" for a decoder."""
    if not encodes(q.model.architecture):
        if q.pooling is not None:
            raise InputError(f"--pooling {q.pooling}: {q.model.name} is no encoder")
        return ""
    stated = q.model.header.metadata if q.model.header is not None else {}
    own = next((n for key, n in stated.items() if key.endswith(".pooling_type")), None)
    if q.pooling is None and isinstance(own, int) and 0 <= own < len(POOLING):
        return POOLING[own]
    mean = not known(q.model).sided
    if q.pooling is None:
        most = "the mean of the rows; most files say theirs (BGE: cls)"
        said.append(f"--pooling not given: {most if mean else 'every row, as its files say nothing'}")
    return choice(str(q.pooling or ("mean" if mean else "none")).lower(), "--pooling", [*dict.fromkeys(POOLING)])


def _tokens(q: Any, model: Any, sequences: int, said: list[str]) -> int:
    """``--ctx-size``, or room for what the sequences hold."""
    most = model.architecture.max_positions or value_of(model.architecture.facts.get(ENCODER_ROWS))
    if q.ctx_size is not None:
        asked = 0 if str(q.ctx_size).strip() == "0" else _size(q, q.ctx_size, "--ctx-size", "tokens", "length")
        if not asked and not most:
            raise InputError(f"--ctx-size 0 is the model's own length, which {model.name} does not say. Give a number")
        tokens = asked or int(most) * sequences
    elif q.seq_len is not None:
        new = 0 if q.new_tokens is None else _size(q, q.new_tokens, "--new-tokens", "new_tokens", "length")
        tokens = sequences * (_size(q, q.seq_len, "--seq-len", "seq_len", "length") + new)
    else:
        tokens = sequences * min(DEFAULT_TOKENS, int(most or DEFAULT_TOKENS))
        own = f"; llama.cpp alone would take the model's own {int(most):,}" if most and most > DEFAULT_TOKENS else ""
        said.append(f"--ctx-size not given: {tokens:,} tokens{own}")
    if most and tokens > most * sequences:
        said.append(f"{tokens // sequences:,} tokens a sequence exceed the model's own length of {int(most):,}")
    return tokens


def _cache_type(q: Any, which: str) -> str:
    own = getattr(q, f"cache_type_{which}")
    flag = f"--cache-type-{which}" if own is not None else "--kv-dtype"
    given = own if own is not None else q.kv_dtype
    if given is None:
        return "f16"
    name = str(given).strip().lower().replace("-", "_")
    name = _TYPES.get(name, name)
    if name not in CACHE_TYPES:
        raise InputError(f"{flag} {given}: llama.cpp keeps caches in {', '.join(CACHE_TYPES)}")
    return name


def mix_of(q: Any, said: list[str]) -> str:
    """The mix of the weights: as given, the file's own (""), as a checkpoint's experts lie, or a plain 16-bit file."""
    if q.quantization not in (None, "none"):
        return {"mxfp4": MXFP4}.get(str(q.quantization), str(q.quantization))
    if q.model.mix:
        return str(q.model.mix)
    if q.model.header is not None and q.model.header.kind == "gguf" and not q.model.header.missing:
        return ""
    scheme = q.model.declared.scheme
    unsaid = q.dtype is None or isinstance(q.dtype, Unsaid)
    if q.quantization is None and unsaid and scheme is not None and scheme.name == "mxfp4":
        said.append(f"--quantization not given: {MXFP4}, as llama.cpp converts a checkpoint with such experts")
        return MXFP4
    dtype = str(q.dtype or "bf16").lower()
    name = {"bf16": "bf16", "fp16": "f16", "f16": "f16", "fp32": "f32", "f32": "f32"}.get(_TYPES.get(dtype, dtype))
    if name is None:
        raise InputError(f"--dtype {q.dtype}: a GGUF file is f32, f16, bf16, or a mix such as --quantization q4_k_m")
    said.append(f"--quantization not given: a file in {name}, vectors in fp32")
    return name


def weights_of(q: Any, mix: str, said: list[str]) -> Weights:
    if not mix:
        return of_header(q.model.header, q.model.architecture)
    if mix not in MIXES and mix not in PLAIN_TYPES:
        raise InputError(f"--quantization {mix}: llama.cpp reads GGUF mixes: q4_k_m, q5_k_m, q6_k, q8_0, iq4_xs ...")
    if mix in MIXES:
        said += mix_notes(mix, bool(q.imatrix), set())
    made = of_mix(q.model.architecture, mix, bool(q.imatrix), build_of(q))
    if q.engine_version is None:
        before = of_mix(q.model.architecture, mix, bool(q.imatrix), EARLIER)
        if value_of(before.total) != value_of(made.total):
            size = human(int(value_of(before.total)), BYTES)
            said.append(f"files made before 2025 follow other rules: {size} (--engine-version b{EARLIER})")
    return made


def placement(q: Any, layers: int, cards: tuple[Card, ...], said: list[str]) -> Placement:
    """Where the layers go."""
    experts = _experts(q, layers)
    given = None if q.gpu_layers is None else str(q.gpu_layers).strip().lower()
    if given is None and not cards:
        said.append("no --gpu: everything on the host (--gpu-layers N puts layers on a device)")
        return Placement(layers)
    shares = _shares(q, cards)
    if given is None:
        said.append("--gpu-layers not given: all")
    if given == "0":
        n = 0
    else:
        n = layers + 1 if given is None or given in ALL else _size(q, given, "--gpu-layers", "tokens")
    late = build_of(q) < OUTPUT_FIRST
    if late and 0 < n <= layers:
        said.append("builds before December 2025 offload the output layer last: it stays on the host")
    place = Placement(layers, min(n, layers + 1), shares, experts, not q.no_kv_offload, late)
    if n < layers + 1 or experts:
        said.append("what crosses between devices as ggml's scheduler copies it, without what a card's kernels add")
    elif place.copies > 1:
        said.append(
            f"{place.copies} copies of what crosses between devices, whose micro-batches overlap, as logs of two cards "
            "show; a build with GGML_SCHED_MAX_COPIES=1 has one"
        )
    return place


def _experts(q: Any, layers: int) -> frozenset[int]:
    """The layers whose experts stay on the host."""
    named: frozenset[int] = frozenset()
    if q.override_tensor is not None:
        named = layers_on_host(str(q.override_tensor), layers)
    if q.cpu_moe is None:
        return named
    text = str(q.cpu_moe).strip().lower()
    first = layers if text in ALL else 0 if text == "0" else _size(q, text, "--cpu-moe", "tokens")
    return named | frozenset(range(min(first, layers)))


def _shares(q: Any, cards: tuple[Card, ...]) -> tuple[float, ...]:
    if q.tensor_split is None:
        return split_evenly(c.bytes or 1 for c in cards) or (1.0,)
    parts = str(q.tensor_split).replace("/", ",").split(",")
    try:
        shares = tuple(float(x) for x in parts)
    except ValueError:
        shares = ()
    if not shares or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise InputError(f"--tensor-split {q.tensor_split}: numbers with commas between them, one a GPU: 3,1")
    if cards and len(shares) != len(cards):
        raise InputError(f"--tensor-split has {len(shares)} shares, --gpu {len(cards)} GPUs. Give one a GPU")
    return shares


def _size(q: Any, value: Any, flag: str, field: str, kind: str = "count") -> int:
    return int(value_of(size_option(q.model, value, flag, field, kind)))
