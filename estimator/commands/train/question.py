"""The question of ``llmcalc train``."""

from __future__ import annotations

from typing import Any

from estimator.questions.base import Unsaid, again, option
from estimator.questions.parts import Adapted, OnCard, Sequences, Served, Sharded, Stacked, StepOptions
from estimator.records import dataclass

PUE = 1.1  # Touvron et al. 2023, LLaMA, arXiv 2302.13971, section 6
INTENSITY = 0.385  # kg CO2e a kWh, the US average that LLaMA, section 6, uses
RESTART_SECONDS, WRITE_SECONDS = 600.0, 60.0


@dataclass(frozen=True, kw_only=True)
class Train(OnCard, Sharded, Stacked, Adapted, StepOptions, Sequences):
    """Time, money, energy and carbon of a training run or a fine-tune.

    goodput is the productive share of the time; without it, mtbf hours of one GPU between failures decide, with
    write_seconds a checkpoint and restart_seconds a failure. link: 10^9 bytes/s one way.
    """

    tokens: Any = option(None, "Tokens of the run: 15T.", "TOKENS")
    steps: Any = option(None, "Optimizer steps, in place of --tokens.", "N")
    examples: Any = option(None, "Examples of a fine-tune, in place of --tokens.", "N")
    epochs: Any = option(1.0, "Passes over the examples.", "X", kind="float", of=("examples",))
    mean_tokens: Any = option(None, "Average tokens of an example.", "TOKENS", of=("examples",))
    packing: Any = option(False, "Pack examples into full sequences instead of padding them.", kind="flag")
    gpu: Any = again(OnCard, "gpu", "h100-sxm")
    gpus: Any = again(Sharded, "gpus", "1")
    stage: Any = again(Sharded, "stage", "0", of=("gpus",))
    ram: Any = again(Served, "ram", None, help="The host's memory, to ask whether what --offload puts there fits: 2TB.")
    link: Any = option(None, "10^9 bytes/s one way between GPUs; the preset's where not given.", "GB/S", of=("gpus",))
    tp_comm_overlap: Any = option(
        False, "Tensor-parallel collectives run beside the products: the most that can be won.", kind="flag"
    )
    dtype: Any = option(Unsaid("bf16"), "Of the matrix products (fp16 on cards without bf16).", "NAME")
    attention: Any = option(None, "sdpa (fused) or eager; what transformers has for the model where not given.", "NAME")
    loss: Any = option("full", "full (fp32 logits), chunked, fused; of divided words parallel or gathered.", "NAME")
    attention_flops: Any = option("full", "Convention of MFU: full or causal.", "NAME")
    mfu: Any = option(None, "Model FLOPs utilisation in place of the roofline: 0.4 or 40%.", "SHARE")
    price: Any = option(None, "USD a GPU-hour; the preset's median where not given.", "USD")
    power: Any = option(None, "Watts a GPU; the preset's design power where not given.", "W")
    pue: Any = option(PUE, "Overhead of the data centre.", "X", kind="float")
    carbon_intensity: Any = option(INTENSITY, "kg CO2e a kWh of the grid.", "X", kind="float")
    embodied: Any = option(None, "kg CO2e of making one GPU.", "KG")
    life_years: Any = option(5.0, "Years over which --embodied is spread.", "X", kind="float", of=("embodied",))
    goodput: Any = option(None, "Share of the time that makes progress.", "SHARE")
    mtbf: Any = option(None, "Hours between failures of one GPU.", "HOURS")
    write_seconds: Any = option(WRITE_SECONDS, "Time to write a checkpoint.", "X", kind="float", of=("mtbf",))
    restart_seconds: Any = option(RESTART_SECONDS, "Time to restart after a failure.", "X", kind="float", of=("mtbf",))
