"""docs/extending.md followed literally in a copy of the program: its examples are put where they say, and all commands
know what they add: two families, a norm, an attention, a mixer, an optimizer, a storage scheme, a stack, an adapter, a
formula, a command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.headers.make import gguf

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^# (estimator/\S+\.py)\n(.*?)(?=^# estimator/|^```)", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^# a line of (\w+)\n(.*)\Z", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"Its line in `(\w+)` \(`(\S+)`\) is `(.*?)`")
COMMANDS = (
    "memory --mode training --derive", "memory", "memory --mode training --method lora --targets all-linear",
    "kvcache", "flops --mode training", "peft --method lora --targets q_proj", "zero --gpus 4", "infer --gpu h100",
    "memory --engine vllm --gpu h100",
)  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with all that the page adds."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("estimator", "presets"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    page = (ROOT / "docs/extending.md").read_text()
    for name, text in EXAMPLE.findall(page):
        path, line = root / name, LINE.search(text)
        if line is None:
            path.parent.mkdir(exist_ok=True)
            before = path.read_text() if path.exists() else ""
            assert before == "" or text.startswith("@formula")
            path.write_text(before + "\n\n" * bool(before) + text)
        else:
            add(path, line[1], line[2].strip(), text[: line.start()].strip())
    (table, name, line), = NAMED.findall(page)
    for each in (line, line.replace("pine", "larch")):
        add(root / name, table, each)
    return root


def add(path: Path, table: str, line: str, code: str = "") -> None:
    """Put the line first into the table, which stands in the module once, and the code before it."""
    before, start, rest = re.split(rf"(^{table}\b[^\n]*[({{]\n)", path.read_text(), flags=re.MULTILINE)
    loop = re.match(r"    (\w)\.name: \1\n    for \1 in \(\n", rest)
    opening = loop[0] if loop else ""
    path.write_text(f"{before}{code}\n\n\n{start}{opening}{line}\n{rest[len(opening) :]}")


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


@pytest.fixture(scope="module")
def larch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("larch") / "config.json"
    config.write_text(json.dumps({"model_type": "larch", "architectures": ["LarchForCausalLM"]}))
    return config


@pytest.mark.parametrize("line", COMMANDS)
def test_a_family_that_is_no_llama(copy: Path, larch: Path, line: str) -> None:
    found = run(copy, line.replace("q_proj", "q,k"), larch)
    d, d_ff, V, L, s = 256, 512, 1024, 3, 512
    layer = 2 * d * d_ff + d_ff + d + 2 * d
    if line == "memory":
        assert found["params.total"] == V * d + s * d + L * layer + 2 * (2 + 1) * d * d + 4 * d * d + d
    if line == "kvcache":
        assert found["kv_cache_bytes"] == 2 * 2 * s * d + (L - 1) * 4 * d
    if line.startswith("flops"):
        matrices = L * 2 * d * d_ff + (L - 1) * 3 * d * d + 4 * d * d + V * d
        assert found["total_flops"] == 3 * 2 * s * (matrices + 2 * s * d)


PARAMS, LINEAR = 1839104, 3 * 2 * 256 * 512 + 2 * 3 * 256**2 + 4 * 256**2
SIX_BITS = 2 * (PARAMS - LINEAR) + LINEAR * 6 // 8 + LINEAR // 64 * 2 + 14 * 16  # codes, scales, shapes of 14 matrices
NAMES = (
    ("memory --mode training --optimizer sign --recipe torch-mixed", {"optimizer_bytes": 2 * PARAMS}),
    ("memory --quantization int6", {"weights_bytes": SIX_BITS}),
    ("memory --mode training --recipe grove", {"gradients_bytes": 2 * PARAMS}),
    ("peft --method moss --targets q,k", {"trainable_params": 2 * 2 * 256}),
    ("memory --mode training --method moss --targets q,k", {"params.trainable": 2 * 2 * 256}),
    ("train --gpu h100 --tokens 1e6 --optimizer sign", {}),
    ("move --price 0.5", {"weights_bytes": 2 * PARAMS, "usd": 2 * PARAMS * 0.5 / 10**9}),
)


@pytest.mark.parametrize(("line", "want"), NAMES, ids=[line for line, _ in NAMES])
def test_what_else_is_added(copy: Path, larch: Path, line: str, want: dict[str, object]) -> None:
    found = run(copy, line, larch)
    assert {k: found[k] for k in want} == want


def test_its_gguf_files_are_read(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "pine.gguf"
    keys = {"embedding_length": 64, "block_count": 2, "attention.head_count": 4, "attention.head_count_kv": 2,
            "feed_forward_length": 96, "context_length": 128, "vocab_size": 100}  # fmt: skip
    gguf(path, {"general.architecture": "pine", **{f"pine.{k}": v for k, v in keys.items()}},
         dict.fromkeys(("token_embd.weight", "output.weight"), (0, (100, 64), 4 * 100 * 64)))  # fmt: skip
    assert run(copy, "kvcache --seq-len 64 --engine transformers", path)["kv_cache_bytes"] == 2 * 2 * 64 * 2 * 16 * 2
