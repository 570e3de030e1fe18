"""docs/extending.md followed in a copy of the program: a family is one file and one line, and all commands know it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.headers.make import gguf

ROOT = Path(__file__).resolve().parents[2]
FAMILY = '''"""Pine: a Llama with a norm of its own kind and biases."""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import Architecture
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, dense
from estimator.families.gguf import Gguf
from estimator.headers.gguf_architectures import plain

GGUF = {"pine": Gguf("pine", reader=plain("pine"))}


def build(c: Config) -> Architecture:
    """Pine from its config."""
    D = read_dims(c, 256, 4, 512, 1024, 3, h_kv=2)
    attention = gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=True)
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff)
    return dense(c, D, lambda kind: attention, mlp, positions=512, norm="layer")
'''
COMMANDS = (
    "memory --mode training --derive", "memory", "memory --mode training --method lora --targets all-linear",
    "kvcache", "flops --mode training", "peft --method lora --targets q_proj", "zero --gpus 4", "infer --gpu h100",
    "memory --engine vllm --gpu h100",
)  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the new family: the file, and the line in ``FAMILIES``."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("estimator", "presets"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "estimator" / "families" / "pine.py").write_text(FAMILY)
    table = root / "estimator" / "families" / "__init__.py"
    text = table.read_text()
    assert text.count('    "pixtral": "pixtral",\n') == 1
    table.write_text(text.replace('    "pixtral": "pixtral",\n', '    "pine": "pine",\n    "pixtral": "pixtral",\n'))
    return root


def run(copy: Path, line: str, model: Path) -> dict[str, object]:
    env = {**os.environ, "PYTHONPATH": str(copy)}
    argv = [sys.executable, "-m", "estimator", *line.split(), "--model", str(model), "--format", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=copy, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)["results"]
    return found


@pytest.mark.thorough
def test_a_family_is_one_file_and_a_line(copy: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "pine", "architectures": ["PineForCausalLM"]}))
    d, d_ff, V, L = 256, 512, 1024, 3
    attention = d * d + 2 * d * (d // 2) + d * d + d + 2 * (d // 2) + d
    layer = attention + 3 * d * d_ff + 4 * d
    for line in COMMANDS:
        found = run(copy, line, config)
        if line == "memory":
            assert found["params.total"] == 2 * V * d + L * layer + 2 * d


def test_its_gguf_files_are_read(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "pine.gguf"
    keys = {"embedding_length": 64, "block_count": 2, "attention.head_count": 4, "attention.head_count_kv": 2,
            "feed_forward_length": 96, "context_length": 128, "vocab_size": 100}  # fmt: skip
    gguf(path, {"general.architecture": "pine", **{f"pine.{k}": v for k, v in keys.items()}},
         dict.fromkeys(("token_embd.weight", "output.weight"), (0, (100, 64), 4 * 100 * 64)))  # fmt: skip
    assert run(copy, "kvcache --seq-len 64 --engine transformers", path)["kv_cache_bytes"] == 2 * 2 * 64 * 2 * 16 * 2
