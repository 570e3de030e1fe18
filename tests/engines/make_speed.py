"""Add public scoreboards of llama.cpp to tests/engines/llamacpp_speed.json.

    python tests/engines/make_speed.py CLONE    a clone of github.com/smoothyy3/willitrun

That project collects llama.cpp's own scoreboards (discussions 4167, 10879, 15013 and 15021) and LocalScore's runs as
JSON lines. Rows whose GPU is no preset are left out, as are Vulkan's of other vendors than Intel, LocalScore's of chips
other than Apple's Pro, Max and Ultra (what it calls M1 and M2 reads weights faster than their memory gives them), and a
prompt's of LocalScore (a mean over lengths). The scoreboard's 80-core M3 Ultra is filed under ``apple-m3-8gb`` there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COLUMNS = ["when", "gpu", "model", "mix", "test", "tokens", "flash", "tokens_per_second"]
MIXES = {"4bit": "q4_0", "int8": "q8_0", "fp16": "f16"}
APPLE = {"m1-16gb": "m1", "m1-pro-16gb": "m1-pro", "m1-max-32gb": "m1-max", "m1-ultra-64gb": "m1-ultra",
         "m2-16gb": "m2", "m2-pro-16gb": "m2-pro", "m2-max-32gb": "m2-max", "m2-ultra-64gb": "m2-ultra",
         "m3-8gb": "m3-ultra", "m3-pro-18gb": "m3-pro", "m3-max-36gb": "m3-max", "m4-pro-24gb": "m4-pro",
         "m4-max-36gb": "m4-max"}  # fmt: skip
CHIPS = {"RTX PRO 6000 Blackwell": "rtx-pro-6000", "H100 80 GB": "h100-sxm", "A100 80 GB": "a100-80gb",
         "Tesla V100": "v100-16gb", "Tesla P100": "p100-pcie", "Tesla P40": "p40", "Tesla T4": "t4",
         "Jetson AGX Orin": "jetson-agx-orin-64gb", "Intel Arc A770": "arc-a770", "Intel Arc B580": "arc-b580"}
LOCAL = {"M1 Pro 8P+2E+16GPU": "m1-pro", "M1 Max 8P+2E+32GPU": "m1-max", "M1 Ultra 16P+4E+64GPU": "m1-ultra",
         "M2 Pro 8P+4E+19GPU": "m2-pro", "M2 Max 8P+4E+38GPU": "m2-max", "M2 Ultra 16P+8E+76GPU": "m2-ultra",
         "M3 Pro 6P+6E+18GPU": "m3-pro", "M3 Max 12P+4E+40GPU": "m3-max", "M3 Ultra 24P+8E+80GPU": "m3-ultra",
         "M4 Pro 10P+4E+20GPU": "m4-pro", "M4 Max 12P+4E+40GPU": "m4-max"}  # fmt: skip
LOCAL_MODELS = {"meta-llama/Llama-3.1-8B": "llama-3.1-8b", "Qwen/Qwen2.5-14B": "qwen2.5-14b"}
TYPED = ("2023-12", "2024-01", "2024-05")  # rows that were read from pages: kept as they are
LOCAL_TOKENS = 1024  # LocalScore's mean over nine shapes of 16 to 3,072 generated tokens, about here


def board(r: dict[str, Any]) -> list[Any] | None:
    """A row of llama.cpp's scoreboards."""
    said = dict(x.split("=") for x in r["notes"].split("; ") if "=" in x)
    test = r["benchmark_id"].split("__")[4]
    if said["backend"] == "Metal":
        gpu = APPLE[r["device"].removeprefix("apple-")]
        when = "2023-11"
    else:
        chip = said["chip"]
        if said["backend"] == "Vulkan" and not chip.startswith("Intel Arc"):
            return None
        gpu, when = CHIPS.get(chip, chip.lower().replace(" ", "-")), "2025"
    return [when, gpu, "llama-2-7b", MIXES[r["precision"]], test[:2], int(test[2:]),
            r["benchmark_id"].endswith("__fa"), r["value"]]  # fmt: skip


def local(r: dict[str, Any]) -> list[Any] | None:
    """A row of LocalScore's."""
    _, chip, mix = r["notes"].split(" \u00b7 ")
    gpu, model = LOCAL.get(chip.removeprefix("Apple ")), LOCAL_MODELS.get(r["model_id"])
    if gpu is None or model is None or mix != "Q4_K - Medium" or r["metric"] != "tok_s_tg":
        return None
    return ["localscore", gpu, model, "q4_k_m", "tg", LOCAL_TOKENS, False, r["value"]]


def main() -> None:
    """Rewrite the file: the rows that were read from pages, then the others."""
    from estimator.presets import find

    path, clone = HERE / "llamacpp_speed.json", Path(sys.argv[1]) / "data" / "normalized"
    old = json.loads(path.read_text())
    rows = [[*r[:6], False, r[-1]] for r in old["rows"] if r[0] in TYPED]
    for name, read in (("llama_cpp_cuda.jsonl", board), ("localscore.jsonl", local)):
        found = [read(json.loads(line)) for line in (clone / name).read_text().splitlines()]
        rows += [r for r in found if r is not None and find("gpus", r[1])]
    lines = ",\n".join(json.dumps(r) for r in rows)
    head = json.dumps({"sources": old["sources"], "columns": COLUMNS}, indent=1)[:-2]
    path.write_text(f'{head},\n "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
