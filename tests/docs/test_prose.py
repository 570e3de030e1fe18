"""Figures in the prose of the guides and of the stacks' pages: each is computed here, or its sentence names its source.

What stands in a block of output is run by ``test_examples``; this is for the sentences between. A figure that no phrase
below covers is refused, and so is a phrase that no page holds any more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from estimator import api
from estimator.dtypes import FORMATS
from estimator.errors import DoesNotFit, InputError, InternalError
from estimator.inventory import LINEAR
from estimator.models import load_model
from estimator.stack.codes import PART
from estimator.stack.losses import TILE_COLUMNS, TILE_ROWS
from estimator.stack.packed import packed_bytes
from estimator.units import KIBI

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(p for d in ("guides", "stacks") for p in (DOCS / d).glob("*.md") if p.name != "measured.md")
GIB, NF4_DQ = KIBI**3, "nf4-dq"
# versions, machines and names; widths of types; numbers of ranks and stages: what they name is in the sentence
NAMES = (
    r"1F1B", r"(GLM-|ERNIE )\d\.\d", r"ZeroRedundancyOptimizer \(1\) or FSDP2 \(2, 3\)",
    r"(Axolotl|DeepSpeed|PyTorch|transformers|accelerate|litgpt|torchtune|TRL|Unsloth|peft) \d[\d.]*\d",
    r"\d+ (H100|H200|A100)s?",
    r"\d+[-\s]bits?", r"stages? \d( and \d)?", r"Rank \d", r"et al\. \d{4}", r"table \d", r"Llama \d[.\d]*",
    r"\d+B\b", r"\d+ GB cards", r"stage \d's",
)  # fmt: skip
# what others wrote, or what was measured once: the sentence says who, or names the row of a table
SAID = (
    "readme says 21 GB", "Schmid's 22 GB", "with 3,072 tokens", "14.92 GiB for a", "in 16 bits, ", "2 x 2,048 tokens",
    "where 10.9 is allocated here", "512 and 2,048 tokens", "8.28 and 9.16 GiB below 10.24 and 10.22", "its 27.6 GiB",
    "13.9 GiB with",
    "for longer, up to 3%", "46 MiB of it", "fits 48 GB", "at 21 GiB each", "the host 0.6 ms",
    "20 to 29% larger than what is said here", "before 0.43.2 bitsandbytes",
    "2 x 1,024 tokens, took 0.20 s", "to be busy 0.03", "an assertion (0.50.2)",
)  # fmt: skip


def states(recipe: str) -> float:
    """Bytes of model states a parameter, on one GPU."""
    stage = 0 if recipe == "megatron" else 2
    held = api.zero(params=10**9, recipe=recipe, gpus=1, stage=stage).results()
    return float(held[f"stage{stage}.memory_bytes"] / 10**9)


def scales(model: str) -> int:
    """Bytes of a packed model's scales."""
    weights = [w for w in load_model(model).architecture.weights() if w.role == LINEAR and len(w.shape) == 2]
    return int(sum(w.times * sum(packed_bytes(w.elements, NF4_DQ)[1:]) for w in weights))


def codes() -> list[int]:
    return [InputError("").exit_code, DoesNotFit("").exit_code, InternalError("").exit_code]


LORA = {"method": "lora", "rank": 16, "targets": "all-linear", "args": {"autocast_adapter_dtype": False}}


def _qlora_peak(tokens: int) -> float:
    """Bytes allocated by fsdp_qlora's LoRA of Llama 2 7B on two GPUs (train.py's defaults)."""
    given = LORA | {"rank": 64, "args": {"autocast_adapter_dtype": False, "lora_dropout": 0.1}}
    given |= {"transformers": "4.46", "reentrant": True, "fsdp_version": 1, "gpus": 2, "seq_len": tokens}
    return _peak("llama-2-7b", **given)


def _tune_peak(given: dict[str, Any]) -> float:
    """Bytes allocated by torchtune's Llama 3.1 70B on eight GPUs."""
    return _peak("llama-3.1-70b", gpus=8, fsdp_wrap="tables", batch_size=2, seq_len=2048, **given)


def _peak(model: str, **given: Any) -> float:
    more = {"recipe": "torch-bf16", "stage": 3, "checkpointing": "full"} | given
    return float(api.memory(model, "training", **more).results()["peak.allocated_bytes"])


CHECKED: dict[str, Any] = {
    "gigabytes with 128k words": lambda: load_model("llama-3.1-8b").architecture.vocab == 128_256
    and 2048 * 128_256 * 4 > 10**9,
    "in 4 bits": lambda: 4 < FORMATS["nf4"].bits_per_weight <= 4.5,
    "full and 6N": lambda: "6 N D" in api.to_text(api.flops("gpt2", mode="training"), "markdown"),
    "the exit code is 3": lambda: codes()[1] == 3,
    "Exit codes: 0; 2 for input that cannot be used; 3 for": lambda: codes()[:2] == [2, 3],
    "70 for a contradiction": lambda: codes()[2] == 70,
    "20 bytes a parameter": lambda: states("deepspeed") == 20,
    "18 bytes a parameter": lambda: states("megatron") == 18,
    "1 GiB of a 70B": lambda: 0.9 < scales("llama-3-70b") / GIB < 1.1,
    "128 tokens at a time": lambda: PART == 128,
    "tiles of 4,096 tokens x 32,768": lambda: (TILE_ROWS, TILE_COLUMNS) == (4096, 32_768),
    "2n sequences": lambda: any("2n sequences" in a for a in api.memory("gpt2", "training", "dpo").assumptions),
    "are within 2%": lambda: all(
        abs(_qlora_peak(n) / (said * GIB) - 1) < 0.02 for n, said in ((512, 8.28), (2048, 9.16))
    ),
    "are within 8%": lambda: abs(_tune_peak(LORA) / (27.6 * GIB) - 1) < 0.08
    and abs(_tune_peak({"offload": "all"}) / (13.9 * GIB) - 1) < 0.08,
    "base of 4 bits": lambda: FORMATS["nf4"].bits_per_weight >= 4,
}


def prose(page: Path) -> str:
    """The sentences of a page: no blocks, no code, no addresses, on one line."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_figure_is_known(page):
    text = prose(page)
    for phrase in (*CHECKED, *SAID):
        text = text.replace(phrase, "")
    text = re.sub("|".join(NAMES), "", text)
    assert [m[0] for m in re.finditer(r".{0,30}(?<![\w.])\d[\d.,]*.{0,20}", text)] == []


@pytest.mark.parametrize("phrase", CHECKED)
def test_a_figure_is_what_is_computed(phrase):
    assert CHECKED[phrase]()


def test_every_phrase_is_said():
    text = " ".join(map(prose, PAGES))
    assert [phrase for phrase in (*CHECKED, *SAID) if phrase not in text] == []
