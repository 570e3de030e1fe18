"""Measure what llama.cpp allocates for adapters: tests/engines/llamacpp_adapters.json.

PYTHONPATH=. v/bin/python benchmarks/llamacpp_adapters.py [--draw SEED | --write]     (v: as in llamacpp_contexts.py)

A record names a config and its options in llamacpp_contexts.json.gz, and adapters as (names of matrices in the file,
rank, type). Their files are written, llama.cpp loads the model without allocating and the adapters for real, sets them
and reserves its graph anew, as a server does before its first request. --draw makes records of random adapters.
"""

from __future__ import annotations

import ctypes
import random
import tempfile
from pathlib import Path

import gguf
import numpy as np
from llamacpp_contexts import POINTER, RECORDS, again, apart, breakdown, context_params, library, word, write

from estimator.config import Config
from estimator.engines.llamacpp.lora import places
from estimator.families import build
from estimator.families.common_gguf import encodes, gguf_of, two_sided
from estimator.trace import value_of

OUT = RECORDS.with_name("llamacpp_adapters.json")
DRAWN = (("attn_q", "attn_v"), ("attn_q", "attn_k", "attn_v", "attn_output"), ("ffn_gate", "ffn_up", "ffn_down"),
         ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"), ("ffn_up_shexp", "ffn_down_shexp"), ("output",),
         ("attn_qkv", "attn_output", "ffn_down"), ("attn_gate", "ssm_out", "attn_qkv"))  # fmt: skip
MOST = 10**9  # parameters: larger models make large adapters
BUFFERS = 88  # bytes before llama_adapter_lora's vector of buffers: a pointer, a map, a vector


def halves(arch, stems, rank):
    """{tensor: shape} of an adapter of the matrices whose names end with one of ``stems``."""
    out = {}
    for name, (spot, (n_in, n_out)) in places(arch).items():
        if name.rpartition(".")[2] in stems:
            more = [next(int(value_of(x.mlp.num)) for x in arch.layers if hasattr(x.mlp, "num"))] if spot[2] else []
            out[f"{name}.weight.lora_a"], out[f"{name}.weight.lora_b"] = (*more, rank, n_in), (*more, n_out, rank)
    return out


def write_adapter(path, name, shapes, kind):
    w = gguf.GGUFWriter(str(path), name)
    w.add_string("general.type", "adapter"), w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", 16.0)
    for tensor, shape in shapes.items():
        w.add_tensor(tensor, np.zeros(shape, np.float32 if kind == "f32" else np.float16))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def measured(lib, config, o, adapters):
    """Bytes of the adapters' buffers, and of the compute buffer with them."""
    for name, result, arguments in (
        ("llama_adapter_lora_init", POINTER, (POINTER, ctypes.c_char_p)), ("ggml_backend_buffer_get_size",
         ctypes.c_size_t, (POINTER,)), ("_ZN13llama_context13sched_reserveEv", None, (POINTER,)),
        ("llama_set_adapters_lora", ctypes.c_int32, (POINTER, POINTER, ctypes.c_size_t, POINTER)),
    ):  # fmt: skip
        function = getattr(lib, name)
        function.restype, function.argtypes = result, list(arguments)
    arch = build(Config(dict(config)))
    name, made, size = gguf_of(arch).name, [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        write(path, name, arch, config)
        p = lib.llama_model_default_params()
        p.no_alloc, p.extra, p.load_mode, p.lazy_mode, p.load_mtp = True, False, 0, 0, False
        model = lib.llama_model_load_from_file(str(path).encode(), p)
        for stems, rank, kind in adapters:
            write_adapter(path, name, halves(arch, stems, rank), kind)
            made.append(lib.llama_adapter_lora_init(model, str(path).encode()))
            size += sum(
                lib.ggml_backend_buffer_get_size(word(at))
                for at in range(word(made[-1] + BUFFERS), word(made[-1] + BUFFERS + 8), 8)
            )
    context = lib.llama_init_from_model(model, context_params(lib, o))
    given, scales = (POINTER * len(made))(*made), (ctypes.c_float * len(made))(*[1.0] * len(made))
    lib.llama_set_adapters_lora(context, given, len(made), scales)
    lib._ZN13llama_context13sched_reserveEv(context)
    return {"adapter_bytes": size, "compute_bytes": sum(compute for *_, compute in breakdown(lib, context))}


def drawn(contexts, seed):
    """Records without sizes: for every architecture up to four contexts, each with an adapter or two."""
    r, by_arch = random.Random(seed), {}
    for x in (x for x in contexts["records"] if x["options"]["outputs"] != "all"):  # few logits: layers decide
        by_arch.setdefault(x["arch"], []).append(x)
    for found in by_arch.values():
        for x in r.sample(found, min(4, len(found))):
            arch = build(Config(dict(contexts["configs"][x["model"]])))
            known = gguf_of(arch)
            if encodes(arch) or two_sided(arch) or known.split or known.packed:
                continue
            size = sum(int(value_of(w.total)) for w in arch.weights())
            fitting = [s for s in DRAWN if size < MOST and halves(arch, s, 1)]
            if fitting:
                some = [
                    [r.choice(fitting), r.choice([7, 16, 256, 1000]), r.choice(["f32", "f16"])]
                    for _ in range(r.choice([1, 1, 2]))
                ]
                yield {"context": x["id"], "adapters": some}


if __name__ == "__main__":
    xllamacpp = library()
    again(OUT, drawn, lambda config, o, record: apart(measured, xllamacpp, config, o, record["adapters"]))
