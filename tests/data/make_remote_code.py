"""Write remote_code.json.gz: what modeling files that come with their weights build, and what indices list.

    python tests/data/make_remote_code.py FOLDER ...

A FOLDER is one of a hub repository (or of a copy of it on GitHub; those of ``SOURCES`` were used) with its config.json
and, where it has them, ``configuration_*.py``, ``modeling_*.py`` and an index. The modeling file is run on PyTorch's
meta device with a stand-in for transformers, as such files were written for versions of years ago: what is recorded are
its parameters' names (numbers replaced by {i}) and shapes, with the published config and with others. A record:

source   the repository; config: as it would stand in a config.json
tensors  [pattern, shape, how often] of what the modeling file builds
index    [names that differ from ours by pattern], bytes of the index, where it has one

Needs torch; the tests do not. Nothing is downloaded.
"""

from __future__ import annotations

import gzip
import importlib.abc
import importlib.util
import json
import re
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
SOURCES = {
    "HarmonyIQA": "github.com/IntMeGroup/HarmonyIQA, modeling_internlm2.py; the config by internlm/internlm2-7b",
    "nas_tuner": "github.com/wxthu/nas_tuner, modeling_minicpm.py; the config by openbmb/MiniCPM-2B-sft-bf16",
    "Baichuan2-13B-Chat": "github.com/jrd77/Baichuan2-13B-Chat",
    "Qwen-7B": "github.com/zhangningboo/Qwen-7B",
    "chatglm-6b-huggingface": "github.com/samson-wang/chatglm-6b-huggingface",
    "chatglm3_annotated": "github.com/zhangbo2008/chatglm3_annotated",
    "internlm-20b": "github.com/yangulei/internlm-20b",
}
UNNEEDED = ("transformers", "accelerate", "bitsandbytes", "einops", "flash_attn", "xformers", "cpm_kernels")
ADDED = "mlpfinal."  # by HarmonyIQA to the class it copied
# sizes that differ from the published ones, by the fields' names in any of these configs
OTHER = [
    {"hidden_size": 512, "num_attention_heads": 8, "num_layers": 3, "num_hidden_layers": 3, "kv_channels": 64,
     "ffn_hidden_size": 1408, "inner_hidden_size": 1536, "intermediate_size": 1664, "vocab_size": 4000,
     "padded_vocab_size": 4160, "multi_query_group_num": 4, "num_key_value_heads": 4},
    {"hidden_size": 768, "num_attention_heads": 12, "num_layers": 2, "num_hidden_layers": 2, "kv_channels": 64,
     "ffn_hidden_size": 1000, "inner_hidden_size": 2000, "intermediate_size": 2048, "vocab_size": 999,
     "padded_vocab_size": 1024, "add_bias_linear": True, "bias": True, "no_bias": False, "attention_bias": True,
     "num_key_value_heads": 12},
]  # fmt: skip


class Config:
    """A config that holds what it is given."""

    max_length, pad_token_id, attn_implementation = 20, None, "eager"
    _attn_implementation, _flash_attn_2_enabled = "eager", False

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            if not isinstance(getattr(type(self), name, None), property):
                setattr(self, name, getattr(torch, value) if name == "torch_dtype" else value)


class Model(torch.nn.Module):
    """A model that holds its config."""

    def __init__(self, config: Any, *_: Any, **__: Any) -> None:
        super().__init__()
        self.config = config

    def post_init(self) -> None:
        """Tie the head to the embeddings where the config says so."""
        if getattr(self.config, "tie_word_embeddings", False) and hasattr(self, "get_output_embeddings"):
            self.get_output_embeddings().weight = self.get_input_embeddings().weight


def anything(*given: Any, **_: Any) -> Any:
    """A decorator that changes nothing, or what makes one."""
    return given[0] if len(given) == 1 and callable(given[0]) else anything


class StandIn(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "ALL_LAYERNORM_LAYERS":
            return []
        if name == "logging":
            return types.SimpleNamespace(get_logger=lambda *_: types.SimpleNamespace(**dict.fromkeys(
                ("info", "warning", "warning_once", "warn", "error"), anything)))  # fmt: skip
        if name == "ACT2FN":
            return {x: torch.nn.SiLU() for x in ("silu", "gelu", "swish")}
        if name in ("PreTrainedModel", "GenerationMixin"):
            return Model
        if name == "PretrainedConfig":
            return Config
        return type(name, (), {}) if name[:1].isupper() and not name.isupper() else anything


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stand-in for what such files import and their tensors do not need."""

    def find_spec(self, name: str, path: Any = None, *_: Any) -> Any:
        leaf = name.rpartition(".")[2]
        if leaf.startswith("configuration_") and not any(Path(p, f"{leaf}.py").exists() for p in path or ()):
            return importlib.util.spec_from_loader(name, self)
        if name.split(".")[0] in UNNEEDED:
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        return StandIn(spec.name)

    def exec_module(self, module: Any) -> None:
        """Nothing to run."""


def loaded(folder: Path, what: str) -> types.ModuleType:
    """The folder's modeling or configuration file."""
    package = re.sub(r"\W", "_", folder.name)
    made = types.ModuleType(package)
    made.__path__ = [str(folder)]
    sys.modules.setdefault(package, made)
    return importlib.import_module(f"{package}.{next(folder.glob(f'{what}_*.py')).stem}")


def built(folder: Path, config: dict[str, Any]) -> list[Any]:
    """[pattern, shape, how often] of the class with a head, on the meta device."""
    module = loaded(folder, "modeling")
    name = next(n for n in vars(module) if re.search(r"(ForCausalLM|ForConditionalGeneration|LMHeadModel)$", n)
                and getattr(module, n).__module__ == module.__name__)  # fmt: skip
    own = vars(loaded(folder, "configuration")) if any(folder.glob("configuration_*.py")) else {}
    kind = next((v for n, v in own.items() if n.endswith("Config") and v is not Config), Config)
    with torch.device("meta"):
        model = getattr(module, name)(kind(**config))
    found = Counter(
        (re.sub(r"(?<=\.)\d+(?=\.)", "{i}", n), tuple(p.shape)) for n, p in model.named_parameters()
        if not n.startswith(ADDED)
    )  # fmt: skip
    return [[n, list(s), times] for (n, s), times in found.items()]


def main() -> None:
    """Write the fixture beside this file."""
    sys.meta_path.insert(0, Finder())
    out = []
    for folder in map(Path, sys.argv[1:]):
        config = json.loads((folder / "config.json").read_text())
        source = SOURCES[folder.name]
        index = next((json.loads(p.read_text()) for p in folder.glob("*.index.json")), None)
        row: dict[str, Any] = {"source": source, "config": config}
        if index:
            names = Counter(re.sub(r"(?<=\.)\d+(?=\.)", "{i}", n) for n in index["weight_map"])
            row |= {"names": names, "bytes": index["metadata"]["total_size"]}
        out.append(row)
        if not any(folder.glob("modeling_*.py")):
            continue
        sys.path.insert(0, str(folder))
        row["tensors"] = built(folder, config)
        for other in OTHER:
            changed = {**config, **{k: v for k, v in other.items() if k in config}}
            out.append({"source": source, "config": changed, "tensors": built(folder, changed)})
    path = HERE / "remote_code.json.gz"
    path.write_bytes(gzip.compress(json.dumps(out, separators=(",", ":")).encode(), 9, mtime=0))
    print(len(out), "records,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
