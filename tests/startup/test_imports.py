"""What a command imports is what it costs: modules are asserted; benchmarks/startup.py measures milliseconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "sympy",
    "numpy",
    "scipy",
    "yaml",
    "transformers",
    "torch",
    "rich.markdown",
    "rich.traceback",
    "click",
}
PROBE = """
import json, sys
from estimator.__main__ import main
sys.argv = ["llmcalc", *json.loads(sys.argv[1])]
code = main()
print("\\n" + json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def modules(*argv: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(argv)], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


MAIN = ("peft", "--method", "lora", "--rank", "8")


@pytest.mark.parametrize(
    "argv",
    [
        MAIN,
        ("memory",),
        ("memory", "--mode", "training", "--gpu", "rtx-4090"),
        ("kvcache",),
        ("infer",),
        ("zero", "--params", "7.5e9", "--gpus", "64"),
        ("models",),
        ("gpus",),
        ("flops",),
        ("kvcache", "--help"),
    ],
    ids=lambda a: a[0],
)
def test_tables_import_nothing_heavy(argv):
    """Not even Rich, which sets what has to be cut or broken (estimator/render/sheet.py)."""
    found = modules(*argv)
    assert not found & (HEAVY | {"rich"})


@pytest.mark.parametrize(
    "argv",
    [
        MAIN,
        ("memory", "--gpu", "h100"),
        ("kvcache", "--gpu", "h100"),
        ("infer", "--gpu", "rtx-4090"),
        ("train", "--gpu", "h100", "--tokens", "1e9"),
        ("gpus", "h100"),
        ("models", "gpt2"),
    ],
    ids=lambda a: a[0],
)
def test_the_projects_own_presets_do_without_pydantic(argv):
    """Options are plain texts and numbers (estimator/coerce.py), and presets are checked by tests, not by runs."""
    assert "pydantic" not in modules(*argv)


def test_json_does_without_rich():
    found = modules(*MAIN, "--format", "json")
    assert not found & (HEAVY | {"rich", "rich.table"})


def test_zero_without_tokens_loads_no_simulator():
    assert "estimator.moments" not in modules("zero", "--params", "7.5e9", "--gpus", "64")


def test_one_command_imports_one_command():
    found = modules(*MAIN)
    assert {m.split(".")[2] for m in found if m.startswith("estimator.commands.")} == {"peft"}
    assert {m for m in found if m.startswith("estimator.families.")} <= {
        "estimator.families.base", "estimator.families.feeds", "estimator.families.mixers",
        "estimator.families.common_parts", "estimator.families.towers",
        "estimator.families.common", "estimator.families.llama", "estimator.families.common_gguf",
    }  # fmt: skip


def test_version_imports_next_to_nothing():
    found = modules("--version")
    assert {m for m in found if m.startswith("estimator")} == {
        "estimator",
        "estimator.__main__",
        "estimator._version",
    }
    assert not found & {"typer", "pydantic", "rich", "argparse"}


def test_the_api_imports_nothing_of_the_program():
    code = "import sys; old = set(sys.modules); import estimator.api; print(*(set(sys.modules) - old))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {m for m in found if m.startswith("estimator")} == {
        "estimator", "estimator._version", "estimator.api",
    }  # fmt: skip
    assert not {m.partition(".")[0] for m in found} & (HEAVY | {"rich", "pydantic", "typer", "json", "dataclasses"})


def test_deriving_imports_sympy_without_its_solids():
    found = modules(*MAIN, "--derive")
    assert "sympy" in found
    assert "sympy.combinatorics" not in found


def test_tensors_are_there_for_who_asks():
    code = (
        "from estimator.spared import spare; spare(); import sympy; x = sympy.Symbol('x'); x + 1\n"
        "from sympy.tensor.tensor import TensorIndexType, tensor_indices, TensorHead, TensAdd\n"
        "L = TensorIndexType('L'); i = tensor_indices('i', L); A, B = (TensorHead(n, [L]) for n in 'AB')\n"
        "assert isinstance(A(i) + B(i), TensAdd)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""
