"""Measure anew what one build of llama.cpp prints for a small model: tests/engines/llamacpp_builds.json.

python -m venv v && v/bin/pip install xllamacpp==2026.5.9093 orjson gguf numpy     # one of VERSIONS
v/bin/python benchmarks/llamacpp_builds.py [--write]

xllamacpp is llama.cpp for CPUs with its server; the wheel's version ends with the build (earlier wheels print it). The
model is a Llama of random numbers with a tokenizer, so that the server loads it as it would any other.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np

RECORDS = Path(__file__).parents[1] / "tests" / "engines" / "llamacpp_builds.json"
VERSIONS = ("0.2.6", "0.2.9", "0.2.10", "0.2.13", "2026.4.8672", "2026.5.9093", "2026.6.9538", "2026.9.11063",
            "2026.10.11549")  # fmt: skip
CONFIG = {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 4,
          "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 8192, "tie_word_embeddings": True,
          "max_position_embeddings": 8192}  # fmt: skip
CASES = [{"ctx": 4096, "flash": True, "type": "f16", "parallel": 1}, {"ctx": 4096, "flash": False, "type": "f16",
         "parallel": 1}, {"ctx": 4096, "flash": True, "type": "q8_0", "parallel": 1}, {"ctx": 2048, "flash": True,
         "type": "f16", "parallel": 4}]  # fmt: skip


def write(path):
    c, r = CONFIG, np.random.default_rng(0)
    d, ff, layers, vocab = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"], c["vocab_size"]
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_context_length(c["max_position_embeddings"]), w.add_embedding_length(d), w.add_block_count(layers)
    w.add_feed_forward_length(ff), w.add_head_count(9), w.add_head_count_kv(3), w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(64), w.add_vocab_size(vocab), w.add_name("tiny"), w.add_file_type(1)
    w.add_tokenizer_model("llama")
    first = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    w.add_token_list([*first, *(f"t{i}" for i in range(vocab - len(first)))])
    w.add_token_scores([0.0] * vocab)
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (vocab - len(first)))
    w.add_bos_token_id(1), w.add_eos_token_id(2), w.add_unk_token_id(0)
    shapes = {"token_embd": (vocab, d), "output_norm": (d,)}
    for i in range(layers):
        each = {"attn_norm": (d,), "ffn_norm": (d,), "attn_q": (d, d), "attn_k": (192, d), "attn_v": (192, d),
                "attn_output": (d, d), "ffn_gate": (ff, d), "ffn_up": (ff, d), "ffn_down": (d, ff)}  # fmt: skip
        shapes |= {f"blk.{i}.{k}": v for k, v in each.items()}
    for name, s in shapes.items():
        w.add_tensor(f"{name}.weight", r.standard_normal(s).astype(np.float16 if len(s) > 1 else np.float32))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def load(path, case):
    """In a child: the server loads the file and prints what it allocates."""
    import xllamacpp as x

    p = x.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.verbosity = path, case["ctx"], case["parallel"], False, 4
    p.cache_type_k = p.cache_type_v = getattr(x.ggml_type, f"GGML_TYPE_{case['type'].upper()}")
    kind = "ENABLED" if case["flash"] else "DISABLED"
    p.flash_attn_type = getattr(x.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{kind}")
    x.Server(p)


def printed_by(run):
    """What the child prints while it loads; some builds' servers never end."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(run, stdout=out, stderr=subprocess.STDOUT)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        out.seek(0)
        return out.read()


def main():
    if sys.argv[1:2] == ["load"]:
        return load(sys.argv[2], json.loads(sys.argv[3]))
    data = json.loads(RECORDS.read_text()) if RECORDS.exists() else {"records": {}}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        write(path)
        for case in CASES:
            run = [sys.executable, __file__, "load", str(path), json.dumps(case)]
            text = printed_by(run)
            printed = re.findall(r"CPU (KV|compute) buffer size = +(\d+\.\d+) MiB", text)
            found[json.dumps(case)] = {k: float(v) for k, v in printed}
    named = re.search(r"build: ([1-9]\d*)", text)
    build = named[1] if named else version("xllamacpp").split(".")[-1]
    print(build, *("as recorded" if data["records"].get(build) == found else ("now", found)))
    if "--write" in sys.argv:
        records = sorted((data["records"] | {build: found}).items(), key=lambda x: int(x[0]))
        rows = ",\n".join(f'  "{b}": {json.dumps(r)}' for b, r in records)
        RECORDS.write_text(f'{{\n "config": {json.dumps(CONFIG)},\n "records": {{\n{rows}\n }}\n}}\n')


if __name__ == "__main__":
    main()
