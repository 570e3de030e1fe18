"""Measure anew what llama.cpp's quantizer makes of the models of tests/engines/llamacpp_mixes.json.gz.

python -m venv v && v/bin/pip install llama-cpp-python==0.3.36 gguf numpy pydantic typer rich     # builds llama.cpp
PYTHONPATH=. v/bin/python benchmarks/llamacpp_mixes.py [--write] [MODEL ...]

Each model's config (tests/engines/llamacpp_contexts.json.gz) becomes a sparse file in f16 (llamacpp_files.py);
llama_model_quantize(dry_run) prints the type of every tensor, and nothing is quantised. --write writes what is named,
a new record too. Of some older classes it lacks tensors (BLOOM's and GPT-2's biases, Llama 3.1's table, Mamba 2):
they are reported as other than recorded, and are not to be written.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import re
import sys
import tempfile
from pathlib import Path

import llama_cpp.llama_cpp as llama
from llamacpp_contexts import write
from llamacpp_files import tensors

from estimator.config import Config
from estimator.dtypes import find_format
from estimator.families import build
from estimator.families.common_gguf import gguf_of

HERE = Path(__file__).parents[1] / "tests" / "engines"
RECORDS, CONTEXTS = HERE / "llamacpp_mixes.json.gz", HERE / "llamacpp_contexts.json.gz"
FTYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13,
          "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq2_xxs": 19, "iq2_xs": 20, "q2_k_s": 21,
          "iq3_xs": 22, "iq3_xxs": 23, "iq1_s": 24, "iq4_nl": 25, "iq3_s": 26, "iq3_m": 27, "iq2_s": 28, "iq2_m": 29,
          "iq4_xs": 30, "iq1_m": 31, "mxfp4_moe": 38}  # fmt: skip
LINE = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- \[.*?\], type = +(\w+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\w+)\))?")


class Imatrix(ctypes.Structure):
    """llama_model_imatrix_data: a name ends the list."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t))


class Quantizer:
    """The wheel's quantizer; what it prints lands in ``said``."""

    def __init__(self):
        self.said = []
        self.hears = llama.llama_log_callback(self.hear)
        llama.llama_log_set(self.hears, None)
        self.one = (ctypes.c_float * 1)(1.0)
        self.matrix = (Imatrix * 2)()
        first = self.matrix[0]
        first.name, first.data, first.size = b"none", ctypes.cast(self.one, ctypes.POINTER(ctypes.c_float)), 1

    def hear(self, level, text, data):
        self.said.append((text or b"").decode(errors="replace"))

    def types(self, path, mix, imatrix):
        """The type of every tensor, or None where the mix is refused."""
        self.said.clear()
        p = llama.llama_model_quantize_default_params()
        p.ftype, p.dry_run, p.nthread = FTYPES[mix], True, 1
        if imatrix:
            p.imatrix = ctypes.cast(self.matrix, type(p.imatrix))
        if llama.llama_model_quantize(str(path).encode(), b"/dev/null", ctypes.byref(p)):
            return None
        return {m[1]: (m[3] or m[2]).lower() for m in LINE.finditer("".join(self.said))}


def measured(quantizer, config, mixes):
    """The record of a model: bytes of each mix, without and with an importance matrix."""
    arch, name = build(Config(dict(config))), name_of(config)
    dims = {file: dims for file, dims, _ in tensors(name, arch, config)}
    out = {"plain": [], "imatrix": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        write(path, name, arch, config)
        for mix in mixes:
            for kind in out:
                found = quantizer.types(path, mix, kind == "imatrix")
                out[kind].append(None if found is None else sum(size(found[file], dims[file]) for file in dims))
    return out


def name_of(config):
    return gguf_of(build(Config(dict(config)))).name


def size(kind, dims):
    """Bytes of a tensor, rows in whole blocks."""
    rows = 1
    for n in dims[1:]:
        rows *= n
    return rows * find_format(kind).bytes(dims[0])


def main():
    data, configs = (json.loads(gzip.decompress(p.read_bytes())) for p in (RECORDS, CONTEXTS))
    quantizer, records = Quantizer(), {r["model"]: r for r in data["records"]}
    named = [a for a in sys.argv[1:] if not a.startswith("-")]
    equal = 0
    for model in named or list(records):
        try:
            found = measured(quantizer, configs["configs"][model], data["mixes"])
        except Exception as error:  # a class whose file is not written here
            print(model, f"{type(error).__name__}: {error}"[:160])
            continue
        before = records.get(model)
        equal += before is not None and all(found[k] == before[k] for k in found)
        if before is None or any(found[k] != before[k] for k in found):
            print(model, "is new" if before is None else "differs")
            records[model] = {"model": model, "arch": name_of(configs["configs"][model]), **found}
    print(f"{equal} of {len(named or records)} as recorded")
    if "--write" in sys.argv and named:
        data["records"] = list(records.values())
        RECORDS.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    main()
