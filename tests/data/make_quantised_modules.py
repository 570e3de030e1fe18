"""Writes quantised_modules.json: how many elements of each preset's linear layers transformers quantises by default.

Needs torch and transformers; every model is built on the meta device. bitsandbytes takes Conv1D and modules that are
exactly torch.nn.Linear, AWQ every subclass of it; what stays is what HfQuantizer.get_modules_to_not_convert says.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

HERE = Path(__file__).parent
PRESETS = HERE.parent.parent / "presets" / "models"


def counts(name: str) -> dict[str, int]:
    """Elements that each method quantises."""
    preset = json.loads((PRESETS / f"{name}.json").read_text())
    config = dict(preset["config"])
    made = CONFIG_MAPPING[config.pop("model_type")](**config)
    with torch.device("meta"):
        model = getattr(transformers, preset["class"])(made)
    model.tie_weights()

    def total(kinds, exact, **how) -> int:
        kept = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules, **how)
        return sum(
            m.weight.numel()
            for n, m in model.named_modules()
            if (isinstance(m, kinds) or type(m) is exact) and should_convert_module(n, kept)
        )

    return {
        "bitsandbytes": total(Conv1D, torch.nn.Linear),
        "awq": total(torch.nn.Linear, None, add_default_skips=True),
    }


def main() -> None:
    """Renew every preset that the file lists."""
    path = HERE / "quantised_modules.json"
    names = json.loads(path.read_text())["linear_elements"]
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    path.write_text(json.dumps({"versions": versions, "linear_elements": {n: counts(n) for n in names}}, indent=1))


if __name__ == "__main__":
    main()
