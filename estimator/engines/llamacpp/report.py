"""The answers of ``memory`` and ``kvcache`` for llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from estimator.engines.brief import keyed
from estimator.engines.llamacpp.caches import LayerCache, kept
from estimator.engines.llamacpp.context import BUILD, MAX_SEQUENCES
from estimator.engines.llamacpp.fits import MOST, SURE, fewest_experts, fits_of, longest, most, most_layers, over, worst
from estimator.engines.llamacpp.load import Holding, Load
from estimator.engines.llamacpp.question import Asked, asked, build_of
from estimator.engines.llamacpp.weights import COMPARED, of_mix
from estimator.families.common_gguf import ENCODER_ROWS, two_sided
from estimator.fit import NO, Fit
from estimator.formula import Citation
from estimator.formulas.llamacpp import gguf_cache_bytes, gguf_output_bytes, gguf_state_bytes
from estimator.formulas.params import total_params
from estimator.ops import ceil_div
from estimator.report import Node, Report
from estimator.trace import value_of
from estimator.units import BYTES, COUNT, PARAMS, TOKENS, human

SOURCE = Citation(
    f"llama.cpp build {BUILD}: src/llama-context.cpp, llama-kv-cache.cpp, llama-graph.cpp, llama-quant.cpp; "
    "ggml/src/ggml-alloc.c, ggml-backend.cpp"
)
# what the short answers show: what is held, the caches, what fits, what else would
HELD = ("weights_bytes", "mmproj_bytes", "draft_bytes", "lora_bytes", "kv_cache_bytes", "recurrent_bytes",
        "output_bytes", "compute_bytes", "device_bytes", "host_bytes")  # fmt: skip
CACHED = ("kv_cache_bytes", "recurrent_bytes", "latent_bytes", "bytes_per_token", "n_ctx")
FIT = ("need_bytes", "gpu_layers.max", "ctx_size.max")
ROOM = ("max_tokens", "max_batch")
PARTS = (
    ("weights", "weights"), ("cache", "KV cache"), ("states", "recurrent states"), ("compute", "compute buffer"),
    ("output", "output buffer"), ("adapters", "adapters"),
)  # fmt: skip


def memory(q: Any) -> Report:
    """What llama.cpp allocates, on every device and on the host, to the byte."""
    a = asked(q)
    load = a.load
    body: list[Any] = [
        Node.group("Parameters", [Node("params.total", "All", total_params(load.arch), PARAMS)]),
        Node.group("What is allocated", [*totals(load)]),
        *places(load),
    ]
    rows, _, facts, verdict = verdict_of(q, a)
    body += rows
    return Report(
        "memory", f"{title(a)}: memory in llama.cpp", inputs(q, a), tuple(body), facts, (*a.said, *notes_of(a)),
        (SOURCE,), tuple(q.model.notes), verdict=verdict, brief=(keyed(body, (*HELD, *FIT)),),
    )  # fmt: skip


def title(a: Asked) -> str:
    c = a.load.context
    mix = a.mix or "as stored"
    each = "" if c.sequences == 1 else f" for {c.sequences} sequences"
    return f"{a.load.name} {mix}, {c.asked:,} tokens{each}"


def inputs(q: Any, a: Asked) -> dict[str, Any]:
    """The inputs of a report."""
    c, p = a.load.context, a.load.place
    return {
        "model": a.load.name, "engine": "llama.cpp", "quantization": a.mix or "as stored", "ctx_size": c.asked,
        "parallel": c.sequences, "logical_batch": c.n_batch, "ubatch_size": c.n_ubatch,
        "flash_attn": "on" if c.flash else "off", "cache_type_k": c.k, "cache_type_v": c.v, "swa_full": c.swa_full,
        "kv_unified": c.unified, "outputs": "all" if c.outputs is None else c.outputs, "gpu_layers": p.offloaded,
        "cpu_moe": len(p.host_experts), "imatrix": bool(q.imatrix), "gpu": q.gpu,
        **({"lora": q.lora} if q.lora else {}),
    }  # fmt: skip


def notes_of(a: Asked) -> tuple[str, ...]:
    """What the cards and the file add to the assumptions."""
    out = [n for card in a.cards for n in card.notes]
    if a.load.encoder is not None:
        out.append(_beside(a.load, a.load.encoder))
    if a.load.place.shares:
        out.append(
            "a device's buffers as ggml's allocator lays them out; beside them the driver's context and kernels' own "
            "workspaces, which llama.cpp does not count either"
        )
    out.append("the host's weights are a mapping of the file (mmap), which the system may drop and read again")
    return tuple(dict.fromkeys(out))


def _beside(load: Load, encoder: Load) -> str:
    """Whether an encoder's pass fits into the buffers that the decoder's has."""
    own = zip(encoder.own, load.own, strict=True)
    more = sum(max(0, value_of(e.compute) - value_of(d.compute)) for e, d in own)
    rows = f"{int(value_of(load.arch.facts[ENCODER_ROWS])):,} rows of the encoder and all rows of logits"
    grows = f"they grow by {human(more, BYTES)} in" if more else "they hold"
    tokens = f"{load.context.ubatch:,} tokens"
    return f"compute buffers for the decoder's pass over {rows}; {grows} the encoder's, {tokens} at the most"


def totals(load: Load) -> Iterator[Node]:
    """The five kinds of memory, wherever they lie."""
    yield Node("weights_bytes", "Weights: the file's tensors", load.weights.total, BYTES)
    if load.tower:
        yield Node("mmproj_bytes", "Vision tower, a file of its own", load.tower, BYTES)
    if load.draft is not None:
        label = f"Draft model {load.draft.name}, all of it"
        yield Node("draft_bytes", label, sum(h.total for h in load.draft.held), BYTES)
    if load.loras:
        yield Node("lora_bytes", "Adapters, as their files hold them", sum(h.adapters for h in load.own), BYTES)
    yield from cache_nodes(load)
    embeds = load.context.pooling or two_sided(load.arch)
    what = "an embedding and a row of logits" if embeds else "a row of logits"
    made = load.output_bytes
    yield Node("output_bytes", f"Output buffer: {what} a sequence", made, BYTES, formula=gguf_output_bytes)
    yield Node("compute_bytes", "Compute buffers", sum(h.compute for h in load.own), BYTES)


def cache_nodes(load: Load) -> Iterator[Node]:
    """KV cache and recurrent states, a row for each group of equal layers."""
    parts = [k for layer in load.arch.layers for k in kept(layer, load.arch, load.gguf, load.context)]
    caches = [k for k in parts if k.kind != "recurrent"]
    rows = [Node("", _label(k, load), k.bytes, BYTES, formula=gguf_cache_bytes) for k in caches]
    if len(rows) == 1:
        yield rows[0]._replace(key="kv_cache_bytes", label="KV cache", note=rows[0].label)
    elif rows:
        yield Node.sum("kv_cache_bytes", "KV cache", rows)
    else:
        yield Node("kv_cache_bytes", "KV cache", 0, BYTES)
    states = [k for k in parts if k.kind == "recurrent"]
    made: Any = sum(k.bytes for k in states)
    yield Node("recurrent_bytes", "Recurrent states, fp32", made, BYTES, formula=gguf_state_bytes if states else None)


def _label(k: LayerCache, load: Load) -> str:
    n = int(value_of(k.layers))
    kind = k.kind if k.kind != "attention" else "window" if k.cells < load.context.cells else "full"
    return f"{n} {kind} layer{'' if n == 1 else 's'} of {k.cells:,} cells a stream"


def places(load: Load) -> Iterator[Node]:
    """Device by device, then the host."""
    if load.devices:
        rows = [_place("", f"device {i}", h) for i, h in enumerate(load.devices)]
        if len(rows) == 1:
            yield rows[0]._replace(key="device_bytes", label="On the device")
        else:
            yield Node.sum("device_bytes", "On the devices", rows)
    else:
        yield Node("device_bytes", "On devices", 0, BYTES)
    yield _place("host_bytes", "On the host", load.host)


def _place(key: str, label: str, held: Holding) -> Node:
    rows = [Node("", name, value, BYTES) for field, name in PARTS if (value := getattr(held, field))]
    return Node.sum(key, label, rows or [Node("", "nothing", 0, BYTES)])


def verdict_of(q: Any, a: Asked) -> tuple[list[Node], Fit | None, dict[str, Any], str]:
    """Whether it fits, and the changes that would make it: fewer layers, a shorter context."""
    fits = fits_of(a.load, a.cards)
    fit = worst(fits)
    if fit is None and a.ram is not None:
        return [a.ram.node()], a.ram, {"fits": a.ram.answer}, a.ram.sentence(f"{a.load.name} ")
    if fit is None:
        return [], None, {"fits": None}, ""
    placed = most_layers(a.load, a.cards, MOST, SURE)
    layers = [x.place.offloaded for x in placed]
    tokens = longest(a.load, a.cards, MOST, SURE)
    rows = [fit.node(), Node.group("What fits", [*_most_layers(a, *layers), *_longest(a, *tokens)])]
    words = fit.sentence()
    if fit.answer == NO:
        experts = fewest_experts(a.load, a.cards)
        if experts is not None:
            least = len(experts.place.host_experts)
            rows.append(Node("cpu_moe.min", "Fewest layers with experts on the host", least, COUNT))
        words += _help(q, a, placed[1], tokens[1], experts)
    if a.ram is not None:
        if a.ram.answer == NO and fit.answer != NO:
            fit, words = a.ram, a.ram.sentence(f"{a.load.name}'s part there ")
        else:
            words += f" On the host {human(int(value_of(a.load.host.total)), BYTES)} of {human(a.ram.have, BYTES)}."
    return rows, fit, {"fits": fit.answer}, words


def _most_layers(a: Asked, most: int, sure: int) -> Iterator[Node]:
    note = f"of {a.load.place.layers + 1}" + ("" if sure == most else f", surely {sure}")
    yield Node("gpu_layers.max", "Most layers on the GPU", most, COUNT, note=note)
    yield Node("gpu_layers.sure", "Layers that surely fit", sure, COUNT)


def _longest(a: Asked, most: int | None, sure: int | None) -> Iterator[Node]:
    """The longest context; sure: with the most that it may take. None: there is no end."""
    positions = a.load.arch.max_positions
    said = [f"surely {sure:,}" if sure else "perhaps"] if most != sure and sure is not None else []
    if positions is not None and (most is None or most > positions):
        said.append(f"the model has {positions:,} positions")
    yield Node("ctx_size.max", "Longest context with these layers", most, TOKENS, note="; ".join(said))
    yield Node("ctx_size.sure", "Context that surely fits", sure, TOKENS)


def _help(q: Any, a: Asked, placed: Load, tokens: int | None, experts: Load | None) -> str:
    """The best change. placed: with the most layers that surely fit; experts: with the fewest on the host."""
    room = None if a.ram is None else a.ram.have
    if experts is not None and experts.place.host_experts and (room is None or experts.host.total <= room):
        least, held = len(experts.place.host_experts), human(int(value_of(experts.host.total)), BYTES)
        return f" With --gpu-layers all --cpu-moe {least} it fits, {held} on the host."
    layers = placed.place.offloaded if room is None or placed.host.total <= room else 0
    if tokens and (not layers or 2 * tokens >= a.load.context.asked):  # a context cut to less is another question
        return f" With --ctx-size {tokens} it fits."
    if layers:
        return f" With --gpu-layers {layers} of {a.load.place.layers + 1} it fits, the rest on the host."
    return _smaller(q, a)


def _smaller(q: Any, a: Asked) -> str:
    """The largest mix in fewer bytes that surely fits whole; of a file, or where none does, that nothing fits."""
    none = " No layer fits."
    if q.model.header is not None:
        return none
    for mix in COMPARED:
        weights = of_mix(a.load.arch, mix, bool(q.imatrix), build_of(q))
        if value_of(weights.total) < value_of(a.load.weights.total):
            if over(a.load.with_weights(weights), a.cards) <= 0:
                return f" With --quantization {mix} it fits."
            none = " No layer fits, nor does a smaller mix."
    return none


def kvcache(q: Any) -> Report:
    """The caches of a context, and what fits beside the weights."""
    a = asked(q)
    load = a.load
    c = load.context
    total: Any = 0
    for layer in load.arch.layers:
        for k in kept(layer, load.arch, load.gguf, c):
            if k.cells == c.cells:
                total = total + k.bytes // (k.cells * c.streams)
    rows = [*cache_nodes(load), Node("bytes_per_token", "One more token of one sequence", total, BYTES)]
    latent = [k for x in load.arch.layers for k in kept(x, load.arch, load.gguf, c) if k.kind == "latent"]
    if latent:
        rows.append(Node("latent_bytes", "Of it MLA latents", sum(k.bytes for k in latent), BYTES))
    rows.append(Node("n_ctx", "Cells of all streams", c.n_ctx, TOKENS, note=f"{c.streams} of {c.cells:,}"))
    more, fit, facts, verdict = verdict_of(q, a)
    if fit is not None:
        found = (n.value for row in more for n in row.walk() if n.key == "ctx_size.max")
        more.append(_room(a, next(found, None)))
    body = (Node.group("", rows), *more)
    return Report(
        "kvcache", f"{title(a)}: KV cache in llama.cpp", inputs(q, a), body, facts, (*a.said, *notes_of(a)), (SOURCE,),
        tuple(q.model.notes), verdict=verdict, brief=(keyed(body, (*CACHED, *FIT, *ROOM)),),
    )  # fmt: skip


def _room(a: Asked, tokens: int | None) -> Node:
    """The longest context of one sequence, and the most sequences of this length, beside the weights.

    tokens: the longest context as it is asked.
    """
    c = a.load.context
    alone = replace(c, sequences=1, outputs=min(1, c.outputs or 1))
    if alone != c:
        (tokens,) = longest(replace(a.load, context=alone), a.cards, MOST)
    each = ceil_div(c.asked, c.sequences)

    def missing(n: int) -> int:
        made = replace(c, sequences=n, asked=each * n, outputs=None if c.outputs is None else n)
        return over(a.load if made == c else replace(a.load, context=made), a.cards, MOST)

    return Node.group(
        "Beside the weights",
        [
            Node("max_tokens", "Longest context of one sequence", tokens, TOKENS),
            Node("max_batch", "Most sequences", most(MAX_SEQUENCES, missing), COUNT, note=f"of {each:,} tokens each"),
        ],
    )
