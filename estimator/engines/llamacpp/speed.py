"""The answer of ``infer`` for llama.cpp: a prompt in micro-batches, then token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.engines.brief import keyed
from estimator.engines.llamacpp.backend import Place, host_of, place_of
from estimator.engines.llamacpp.caches import UNFUSED
from estimator.engines.llamacpp.cards import card_names
from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.question import MXFP4, Asked, asked, build_of, context_of, mix_of
from estimator.engines.llamacpp.rates import AFTER_OLD, OLD, RECENT
from estimator.engines.llamacpp.report import FIT, SOURCE, inputs, notes_of, title, totals, verdict_of
from estimator.engines.llamacpp.timing import Seconds, one_pass
from estimator.errors import InputError
from estimator.families.common_gguf import encodes, two_sided
from estimator.formula import Citation
from estimator.formulas import inference as f
from estimator.presets import find, load_gpu
from estimator.prices import price_of
from estimator.questions.read import batch, tokens
from estimator.records import NamedTuple
from estimator.report import Node, Report
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import SECONDS, TOKEN_RATE, USD

DEFAULT_NEW = 256
FIRST = ("prefill_seconds", "decode_step_seconds", "tokens_per_second", "decode_tokens_per_second",
         "usd_per_million_tokens", "weights_bytes", "kv_cache_bytes")  # fmt: skip
BOTH = (*(f"recent.{key}" for key in FIRST[:5]), *FIRST[:2], *FIRST[5:])  # of both times: first what runs today
WHOLE = ("tokens_per_second", "usd_per_million_tokens")  # of a whole request
EARLIER, LATER = ", builds of 2024", ", builds of 2025"
FAST, SLOW = 0.85, 1.3  # nine of ten measured times over the estimate, each GPU left out: benchmarks/fit_llamacpp.py
LABELS = {
    "weights": "Reading the weights", "products": "Products", "cache": "Keys and values",
    "activations": "Activations between kernels", "launches": "Launches", "sent": "Weights sent over PCIe",
}  # fmt: skip
MEASURED = Citation(
    "github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference, llama.cpp of December 2023 and May 2024; "
    "github.com/ggml-org/llama.cpp/discussions/4167, 10879, 15013 and 15021"
)
BUILDS = (
    "speed stands for builds of December 2023 to May 2024 (no CUDA graphs, quantised prompts through 16 bits, no fused "
    "attention unless --flash-attn on); `recent`, --engine-version b6000 or later, and what no older build could run "
    "stand for the scoreboards of 2025"
)
RECENT_BUILDS = "speed stands for builds of 2025, as llama.cpp's scoreboards have them: CUDA graphs, int8 products"
RECENT_FROM = 6000  # the scoreboards' builds, of August 2025 on
FUSED_FROM = 6325  # --flash-attn auto is the default: github.com/ggml-org/llama.cpp/pull/15434


class Generation(NamedTuple):
    """Prompt tokens and generated tokens a sequence, and sequences."""

    sequences: int
    prompt: int
    new: int


def infer(q: Any) -> Report:
    """Seconds of prompt and generation, rates, cost, and what fits."""
    if encodes(q.model.architecture):
        raise InputError(f"{q.model.name}: an encoder generates nothing; its pass is in: llmcalc flops")
    if two_sided(q.model.architecture):
        raise InputError(f"{q.model.name}: llama.cpp's speed with an encoder was not measured; --engine transformers")
    work, said = _work(q)
    recent = _is_recent(q)
    a, places = _run(q, work, RECENT if recent else OLD)
    prompt, step = estimate(a.load, places, a.mix, work)
    held = asked(replace(q, seq_len=work.prompt, new_tokens=work.new))  # as memory loads it, whatever the speed's build
    rows, _, facts, verdict = verdict_of(q, held)
    spec = load_gpu(_names(q)[0])
    price = price_of(spec, q.price)
    both = q.engine_version is None and not recent
    builds = EARLIER if both else ""
    body = [
        _times("prefill_seconds", f"Prompt, time to first token{builds}", prompt),
        _times("decode_step_seconds", f"A generated token, mean{builds}", step),
        _rates(work, prompt.total, step.total, price.usd, len(places) - 1, builds),
        *((_recent(q, work, price.usd),) if both else ()),
        *rows,
        Node.group("What is allocated", [*totals(held.load)]),
    ]
    facts |= {"bound": step.bound, "prefill.bound": prompt.bound}
    shape = f"{work.sequences:,} x ({work.prompt:,} + {work.new:,}) tokens"
    notes = [n for p in places for n in p.notes]
    if not a.load.place.devices or (a.load.place.offloaded > a.load.place.layers and not a.load.place.host_experts):
        notes = [n for p in places[1:] for n in p.notes] if a.load.place.devices else notes
    return Report(
        "infer", f"{title(a)}: {shape} in llama.cpp", inputs(q, a) | _inputs(work, q), tuple(body), facts,
        (*said, RECENT_BUILDS if recent else BUILDS, *a.said, *notes, price.note, *notes_of(a)), (SOURCE, MEASURED),
        tuple(q.model.notes), verdict=verdict, brief=(keyed(body, (*(BOTH if both else FIRST), *FIT)),),
    )  # fmt: skip


def _is_recent(q: Any) -> bool:
    """Whether the speed stands for builds of 2025: as ``--engine-version`` says, or where no older one could run it."""
    if q.engine_version is not None:
        return bool(build_of(q) >= RECENT_FROM)
    mix = mix_of(q, [])
    return mix == MXFP4 or any(load_gpu(n).architecture in AFTER_OLD for n in _names(q))


def _run(q: Any, work: Generation, build: str) -> tuple[Asked, tuple[Place, ...]]:
    """The load and its places, the host first, as builds of OLD or RECENT times run it."""
    fused = str(q.flash_attn or "auto").lower()
    if fused == "auto":
        packed = context_of(q, []).v not in UNFUSED  # llama.cpp keeps such values only for the fused kernel
        fused = "on" if packed or (build == RECENT and build_of(q) >= FUSED_FROM) else "off"
    a = asked(replace(q, flash_attn=fused, seq_len=work.prompt, new_tokens=work.new))
    places = (host_of(q.host), *(place_of(load_gpu(n), build) for n in _names(q)))
    return a, places if a.load.place.devices else places[:1]


def _recent(q: Any, work: Generation, price: float | None) -> Node:
    """The same in builds of 2025."""
    a, places = _run(q, work, RECENT)
    prompt, step = estimate(a.load, places, a.mix, work)
    rows = [
        _times("recent.prefill_seconds", f"Prompt, time to first token{LATER}", prompt),
        _times("recent.decode_step_seconds", f"A generated token, mean{LATER}", step),
        Node("recent.decode_tokens_per_second", f"Generating alone{LATER}", work.sequences / step.total, TOKEN_RATE),
    ]
    whole = _rates(work, prompt.total, step.total, price, len(places) - 1, LATER)
    rows += [n._replace(key=f"recent.{n.key}") for n in whole.children if n.key in WHOLE]
    return Node.group("In builds of 2025 and later", rows)


def estimate(load: Load, places: tuple[Place, ...], mix: str, work: Generation) -> tuple[Seconds, Seconds]:
    """(the prompt, one generated token of every sequence): a prompt in whole micro-batches and a rest."""
    b, s = work.sequences, work.prompt
    size = min(load.context.n_batch, load.context.n_ubatch, b * s)
    full, rest = divmod(b * s, size)
    whole = one_pass(load, places, mix, size, max(0, s - size / b) / 2, b)
    prompt = _times_of(whole, full)
    if rest:
        prompt = Seconds(
            *(x + y for x, y in zip(prompt, one_pass(load, places, mix, rest, s - rest / b, b), strict=True))
        )
    return prompt, one_pass(load, places, mix, b, s + work.new / 2, b)


def _times_of(seconds: Seconds, n: int) -> Seconds:
    return Seconds(*(x * n for x in seconds))


def _names(q: Any) -> list[str]:
    """The GPUs by name, each a preset."""
    names = [str(n) for n in card_names(q)]
    sizes = [name for name in names if find("gpus", name) is None and name[:1].isdigit()]
    if sizes:
        raise InputError(f"--gpu {sizes[0][:40]}: speed needs a preset of a GPU, not a size: --gpu rtx-3060")
    return names


def _work(q: Any) -> tuple[Generation, list[str]]:
    said: list[str] = []
    new = int(value_of(size_option(q.model, q.new_tokens or DEFAULT_NEW, "--new-tokens", "new_tokens", "length")))
    if q.new_tokens is None:
        said.append(f"--new-tokens not given: {DEFAULT_NEW} tokens are generated")
    given = q.batch_size if q.parallel is None else q.parallel
    return Generation(
        int(value_of(batch(q.model, given))), int(value_of(tokens(q.model, q.seq_len, said, new))), new
    ), said


def _inputs(work: Generation, q: Any) -> dict[str, Any]:
    return {"batch_size": work.sequences, "seq_len": work.prompt, "new_tokens": work.new, "host": q.host}


def _times(key: str, label: str, t: Seconds) -> Node:
    parts = [(name, value) for name, value in zip(t._fields, t, strict=True) if name in LABELS and value > 0]
    hidden = "products" if t.weights >= t.products else "weights"
    rows = [Node("", LABELS[name], value, SECONDS) for name, value in parts if name != hidden]
    total = Node.sum(key, label, rows)
    return Node.group(
        "",
        [
            total,
            Node(f"{key}.ideal", "ideal roofline: data sheet peaks", t.ideal, SECONDS),
            Node(f"{key}.low", "low", max(t.ideal, FAST * t.total), SECONDS),
            Node(f"{key}.high", "high", SLOW * t.total, SECONDS),
        ],
    )


def _rates(work: Generation, first: float, step: float, price: float | None, gpus: int, builds: str) -> Node:
    whole = first + (work.new - 1) * step
    rate = work.sequences * work.new / whole
    rows = [
        Node("ttft_seconds", "Time to first token", first, SECONDS),
        Node("request_seconds", "A whole request", whole, SECONDS),
        Node("tokens_per_second", f"Generated tokens a second, prompt included{builds}", rate, TOKEN_RATE),
        Node("decode_tokens_per_second", f"Generating alone{builds}", work.sequences / step, TOKEN_RATE),
        Node("prefill_tokens_per_second", "Prompt tokens a second", work.sequences * work.prompt / first, TOKEN_RATE),
    ]
    if price is not None:
        usd = f.usd_per_million(price, max(1, gpus), rate)
        rows.append(Node("usd_per_million_tokens", f"A million generated tokens, prompts included{builds}", usd, USD))
    return Node.group("Throughput", rows)
