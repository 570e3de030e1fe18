"""The questions of ``llmcalc plan``: cards for a fine-tune, layouts of a pre-training run, cards that serve a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.errors import InputError
from estimator.questions.base import Question, option
from estimator.records import dataclass
from estimator.units import parse_number, parse_size


@dataclass(frozen=True, kw_only=True)
class Searched(Question):
    """What every search has: accelerators, limits, how many rows are shown."""

    gpu: Any = option("all", "GPU presets with commas, or all that have a price.", "GPU,...")
    gpus: Any = option("1..8", "How many: a number, a list 1,2,8 or a range 1..8 (powers of two).", "N")
    days: Any = option(None, "At most this long.", "X", kind="float")
    usd: Any = option(None, "At most this much: 500, 20k, 1M.", "USD")
    top: Any = option(10, "Rows shown.", "N", kind="int")
    plot: Any = option(False, "Draw every way that fits: cost against time.", kind="flag")
    check_fit: Any = option(False, "Exit with 3 where there is no row.", kind="flag")

    def __post_init__(self) -> None:
        if int(self.top) < 1:
            raise InputError(f"--top must be at least 1, got {str(self.top)[:40]}")
        if self.usd is not None:
            object.__setattr__(self, "usd", dollars(str(self.usd)))


def dollars(text: str) -> float:
    """``500``, ``0.3``, ``20k`` or ``1M`` above 0; InputError for anything else."""
    found = parse_size(text, "--usd") if text.strip()[-1:].isalpha() else parse_number(text, "--usd")
    if found <= 0:
        raise InputError(f"--usd must be above 0, got {text[:40]}")
    return float(found)


@dataclass(frozen=True, kw_only=True)
class Tune(Searched):
    """Which card to rent for a fine-tune, how many, with which method, batch and checkpointing: hours and dollars."""

    examples: Any = option("50k", "Examples, each padded to --seq-len.", "N")
    epochs: Any = option(1.0, "Passes over the examples.", "X", kind="float")
    seq_len: Any = option("2048", "Tokens a sequence; 8k is 8192.", "TOKENS", short="-s")
    method: Any = option("lora,qlora,full", "Methods with commas: lora, qlora, full, dora ...", "METHOD")
    rank: Any = option("16", "Rank of the adapters (on all linear layers).", "R", short="-r")
    global_batch: Any = option("16", "Sequences an optimizer step, over all GPUs.", "N")


@dataclass(frozen=True, kw_only=True)
class PreTrain(Searched):
    """Layouts of a pre-training run: tensor, sequence, context, expert, pipeline, data parallel; checkpointing."""

    model: Any = option(
        None, "As everywhere; with --usd or --days and no model the largest compute-optimal one is looked for.",
        "MODEL", short="-m",
    )  # fmt: skip
    gpu: Any = option("h100-sxm", "GPU presets with commas, or all that have a price.", "GPU,...")
    gpus: Any = option("64..512", "How many: a number, a list, or a range 64..512 (powers of two).", "N")
    tokens: Any = option(None, "Tokens of the run (1T).", "TOKENS")
    law: Any = option("epoch", "Scaling law of the largest model: see llmcalc chinchilla.", "LAW")
    seq_len: Any = option("8192", "Tokens a sequence.", "TOKENS", short="-s")
    global_batch: Any = option("4M", "Tokens an optimizer step, over all GPUs.", "TOKENS")

    @classmethod
    def default_model(cls, options: Mapping[str, Any]) -> str | None:
        """The default model, or None where the largest that a budget trains is asked for."""
        limited = options.get("usd") is not None or options.get("days") is not None
        return None if limited and options.get("tokens") is None else "llama-3-8b"


@dataclass(frozen=True, kw_only=True)
class Serve(Searched):
    """Which cards serve a model, how many, how divided, stored and run: latency and USD a million tokens."""

    gpus: Any = option(None, "How many: a number, a list or a range (default: 1..8, more for a --rate).", "N")
    engine: Any = option("vllm", "vllm, sglang, tensorrt-llm: names with commas, or all.", "NAME")
    context: Any = option("8k", "Tokens of a request, prompt and answer; 8k is 8192.", "TOKENS", short="-c")
    new_tokens: Any = option("256", "Tokens generated a request, of its context.", "TOKENS")
    concurrency: Any = option("16", "Requests at once, over all GPUs; each that ends is followed by another.", "N")
    rate: Any = option(None, "Requests that arrive a second, in place of --concurrency.", "X", kind="float")
    ttft: Any = option(None, "Time to the first token at most: 500ms, 2s (mean; with --rate of 99 in 100).", "TIME")
    itl: Any = option(None, "Time between tokens at most: 50ms (mean).", "TIME")
    quantization: Any = option(
        None, "Of the weights (as the files say): none, fp8, w8a8, awq, nvfp4: names with commas, or all.", "NAME",
        short="-q"
    )
    kv_dtype: Any = option(None, "Of the cache (as the weights): bf16, fp8: names with commas, or all.", "NAME")
    days: Any = option(None, "Days of service, whose bill is shown.", "X", kind="float")
    usd: Any = option(None, "At most this much: for --days, else for a million generated tokens.", "USD")
