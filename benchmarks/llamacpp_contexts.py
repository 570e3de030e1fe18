"""Measure anew what llama.cpp allocates for the configs and options of tests/engines/llamacpp_contexts.json.gz.

python -m venv v && v/bin/pip install xllamacpp==2026.10.11549 gguf numpy pydantic typer rich
PYTHONPATH=. v/bin/python benchmarks/llamacpp_contexts.py [--write] [ARCH ...]

xllamacpp is llama.cpp build 11549 for CPUs with its C API exported. Each config becomes a sparse file
(benchmarks/llamacpp_files.py) that llama.cpp loads without allocating; its own sizes are set beside the recorded ones.
The classes that name their sizes otherwise (GPT-2, Falcon, MPT, Jamba, Mamba 2 ...) are not written and are reported.
"""

from __future__ import annotations

import ctypes
import gzip
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from llamacpp_files import metadata, tensors

from estimator.config import Config
from estimator.engines.llamacpp.caches import kept
from estimator.engines.llamacpp.context import Context
from estimator.families import build
from estimator.families.common_gguf import gguf_of
from estimator.trace import value_of

RECORDS = Path(__file__).parents[1] / "tests" / "engines" / "llamacpp_contexts.json.gz"
POOLING = {"none": 0, "mean": 1, "cls": 2, "last": 3}
TYPES = {t.name.lower(): t for t in gguf.GGMLQuantizationType}
POINTER, U32, INT, FLOAT, BOOL = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_float, ctypes.c_bool


class ModelParams(ctypes.Structure):
    """llama_model_params."""

    _fields_ = (
        ("devices", POINTER), ("overrides", POINTER), ("n_gpu_layers", ctypes.c_int32), ("split_mode", INT),
        ("load_mode", INT), ("lazy_mode", INT), ("main_gpu", ctypes.c_int32), ("tensor_split", POINTER),
        ("callback", POINTER), ("data", POINTER), ("kv_overrides", POINTER), ("vocab_only", BOOL), ("check", BOOL),
        ("extra", BOOL), ("no_host", BOOL), ("no_alloc", BOOL), ("load_mtp", BOOL), ("pad", ctypes.c_uint8 * 64),
    )  # fmt: skip


class ContextParams(ctypes.Structure):
    """llama_context_params."""

    _fields_ = (
        *((n, U32) for n in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_s")),
        ("n_threads", ctypes.c_int32), ("n_threads_batch", ctypes.c_int32),
        *((n, INT) for n in ("ctx_type", "rope_scaling", "pooling", "attention", "flash")),
        *((f"float{i}", FLOAT) for i in range(6)), ("yarn_orig_ctx", U32), ("defrag", FLOAT), ("eval", POINTER),
        ("eval_data", POINTER), ("type_k", INT), ("type_v", INT), ("moe_cache", ctypes.c_size_t), ("abort", POINTER),
        ("abort_data", POINTER), ("embeddings", BOOL), ("offload_kqv", BOOL), ("no_perf", BOOL), ("op_offload", BOOL),
        ("swa_full", BOOL), ("kv_unified", BOOL), ("samplers", POINTER), ("n_samplers", ctypes.c_size_t),
        ("other", POINTER), ("pad", ctypes.c_uint8 * 64),
    )  # fmt: skip


def library():
    """The wheel's library, its functions typed."""
    spec = importlib.util.find_spec("xllamacpp")
    lib = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("xllamacpp*.so"))), mode=ctypes.RTLD_LOCAL)
    for name, result, arguments in (
        ("llama_model_default_params", ModelParams, ()), ("llama_context_default_params", ContextParams, ()),
        ("llama_model_load_from_file", POINTER, (ctypes.c_char_p, ModelParams)),
        ("llama_init_from_model", POINTER, (POINTER, ContextParams)), ("llama_backend_init", None, ()),
        ("_Z26llama_get_memory_breakdownPK13llama_context", POINTER, (POINTER, POINTER)),
    ):  # fmt: skip
        function = getattr(lib, name)
        function.restype, function.argtypes = result, list(arguments)
    lib.llama_backend_init()
    return lib


def write(path, name, arch, config):
    """A sparse file: names, shapes and metadata, and zeros for data; matrices in f16."""
    w = gguf.GGUFWriter(str(path), name)
    for key, value in metadata(name, arch, config).items():
        add = {bool: w.add_bool, int: w.add_uint32, float: w.add_float32, list: w.add_array}[type(value)]
        add(key, value)
    if arch.kind == "encoder":  # the kinds of tokens are read with a vocabulary alone
        w.add_tokenizer_model("bert")
        w.add_token_list([f"t{i}" for i in range(int(value_of(arch.vocab)))])
        w.add_token_type_count(config.get("type_vocab_size", 1))
    else:
        w.add_tokenizer_model("no_vocab")
    w.add_file_type(1)
    total = 0
    for file, dims, kind in tensors(name, arch, config):
        q, plain = (TYPES["f32"], np.float32) if kind == "f32" else (TYPES["f16"], np.float16)
        size = int(np.prod(dims, dtype=object)) * np.dtype(plain).itemsize
        w.add_tensor_info(file, tuple(reversed(dims)), np.dtype(plain), size, raw_dtype=q)
        total += size + -size % 32
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.fout[0].flush()
    at = w.fout[0].tell()
    w.fout[0].truncate(at + -at % 32 + total)
    w.close()


def word(at):
    return ctypes.c_uint64.from_address(at).value


def breakdown(lib, context):
    """[(buffer type, context bytes, compute bytes)] of all buffers: a walk through libstdc++'s std::map."""
    held = ctypes.create_string_buffer(64)
    lib._Z26llama_get_memory_breakdownPK13llama_context(ctypes.addressof(held), context)

    def walk(node):
        if node:
            yield from walk(word(node + 16))
            yield word(node + 32), word(node + 48), word(node + 56)
            yield from walk(word(node + 24))

    return list(walk(word(ctypes.addressof(held) + 16)))


def context_params(lib, o):
    """The parameters of a context with a record's options."""
    c = lib.llama_context_default_params()
    c.n_ctx, c.n_batch, c.n_ubatch, c.n_seq_max = (
        o[k] for k in ("ctx-size", "logical-batch", "ubatch-size", "parallel")
    )
    c.type_k, c.type_v = (int(TYPES[o[f"cache-type-{x}"]]) for x in "kv")
    c.flash, c.swa_full, c.kv_unified = o["flash-attn"] == "on", o.get("swa-full", False), o.get("kv-unified", False)
    if "pooling" in o:
        c.embeddings, c.pooling = True, POOLING[o["pooling"]]
    c.n_outputs_max, c.n_threads, c.n_threads_batch = 0 if o["outputs"] == "all" else o["outputs"], 1, 1
    return c


def measured(lib, record, config):
    """The record's four sizes as llama.cpp gives them."""
    o, arch = record["options"], build(Config(dict(config)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        write(path, record["arch"], arch, config)
        p = lib.llama_model_default_params()
        p.no_alloc, p.extra, p.load_mode, p.lazy_mode, p.load_mtp = True, False, 0, 0, False
        model = lib.llama_model_load_from_file(str(path).encode(), p)
    if not model:
        raise RuntimeError("the file does not load")
    context = lib.llama_init_from_model(model, context_params(lib, o))
    if not context:
        raise RuntimeError("the context is refused")
    _, both, compute = (sum(column) for column in zip(*breakdown(lib, context), strict=True))
    made = Context(o["ctx-size"], o["parallel"])  # recurrent states ask for the sequences alone
    found = [k for x in arch.layers for k in kept(x, arch, gguf_of(arch), made) if k.kind == "recurrent"]
    states = int(sum(k.bytes for k in found))
    return {"kv_cache_bytes": both - states, "recurrent_bytes": states, "output_bytes":
            record["want"]["output_bytes"], "compute_bytes": compute}  # fmt: skip


def told(lib, record, config):
    """:func:`measured`, or why it is not."""
    try:
        return measured(lib, record, config)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def apart(work, *arguments):
    """What ``work`` finds in a child, which llama.cpp ends where one of its assertions fails; None: nothing came."""
    read, end = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            os.write(end, json.dumps(work(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(end)
    text = os.read(read, 1 << 16).decode()
    os.waitpid(child, 0)
    return json.loads(text or "null")


def again(out, drawn, found_for):
    """Measure the records of ``out`` anew, or with --draw SEED those of ``drawn(contexts, seed)``.

    found_for: (a config, the options of its context, a record) -> what llama.cpp gives.
    """
    contexts = json.loads(gzip.decompress(RECORDS.read_bytes()))
    by_id = {x["id"]: x for x in contexts["records"]}
    draw = "--draw" in sys.argv
    records = list(drawn(contexts, sys.argv[-1])) if draw else json.loads(out.read_text())["records"]
    equal = 0
    for record in records:
        x = by_id[record["context"]]
        found = found_for(contexts["configs"][x["model"]], x["options"], record)
        equal += found == record.get("want")
        if found != record.get("want") and not draw:
            print(record["context"], found, record["want"])
        record["want"] = found
    records = [x for x in records if x["want"]]
    print(f"{len(records)} drawn" if draw else f"{equal} of {len(records)} as recorded")
    if draw or "--write" in sys.argv:
        rows = ",\n".join(f"  {json.dumps(x)}" for x in records)
        source = f"llama.cpp build 11549, benchmarks/{out.stem}.py"
        out.write_text(f'{{\n "source": "{source}",\n "records": [\n{rows}\n ]\n}}\n')


def main():
    data, lib = json.loads(gzip.decompress(RECORDS.read_bytes())), library()
    only = [a for a in sys.argv[1:] if not a.startswith("-")]
    equal = seen = 0
    for record in data["records"]:
        if only and record["arch"] not in only:
            continue
        found = apart(told, lib, record, data["configs"][record["model"]]) or {"error": "aborted"}
        seen, equal = seen + 1, equal + (found == record["want"])
        if found != record["want"]:
            print(record["id"], found.get("error") or {k: (v, record["want"][k]) for k, v in found.items()})
        if "--write" in sys.argv and "error" not in found:
            record["want"] = found
    print(f"{equal} of {seen} as recorded")
    if "--write" in sys.argv:
        RECORDS.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    main()
