"""Measure what llama.cpp's scheduler lays out where layers lie on devices: tests/engines/llamacpp_offload.json.

cc -O1 -shared -fPIC -o device.so benchmarks/llamacpp_device.c
PYTHONPATH=. v/bin/python benchmarks/llamacpp_offload.py device.so [--draw SEED | --write]  (v: llamacpp_contexts.py)

A device that computes nothing and has CUDA's alignment and rule of what it takes over from the host is registered with
llama.cpp's CPU build; models of small shape are loaded for real, with layers on it, and llama.cpp allocates its own
buffers. No request is run. What a real card's back end adds (scratch of fused kernels) is not in it.
"""

from __future__ import annotations

import ctypes
import random
import sys
import tempfile
from pathlib import Path

from llamacpp_contexts import POINTER, RECORDS, again, apart, breakdown, context_params, library, write

from estimator.config import Config
from estimator.families import build
from estimator.families.base import MoE, StateSpace
from estimator.families.common_gguf import blocks, encodes, gguf_of, two_sided
from estimator.trace import value_of

OUT = RECORDS.with_name("llamacpp_offload.json")
KEPT = []  # texts that llama.cpp holds by their address
MOST = 3 * 10**8  # parameters: a model is loaded for real
FUNCTIONS = ("ggml_backend_cpu_init", "ggml_nbytes", "ggml_nrows", "ggml_op_name", "ggml_backend_cpu_buffer_from_ptr",
             "ggml_backend_device_register")  # fmt: skip


def overrides(lib, layers):
    """llama_model_tensor_buft_override: the experts of the first layers on the host, as --n-cpu-moe writes it."""
    lib.ggml_backend_cpu_buffer_type.restype = POINTER
    host, out = lib.ggml_backend_cpu_buffer_type(), (POINTER * (2 * layers + 2))()
    for i in range(layers):
        pattern = ctypes.c_char_p(rf"blk\.{i}\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode())
        KEPT.append(pattern)
        out[2 * i], out[2 * i + 1] = ctypes.cast(pattern, POINTER), host
    return out


def measured(device, config, o, place):
    """[[cache, compute] of the host and of every device]."""
    lib, fake = library(), ctypes.CDLL(device)
    lib.ggml_backend_dev_by_type.restype = POINTER
    lib.ggml_backend_buft_name.restype, lib.ggml_backend_buft_name.argtypes = ctypes.c_char_p, [POINTER]
    fake.setup.argtypes = [POINTER, ctypes.c_int, ctypes.c_bool, POINTER]
    found = (POINTER * len(FUNCTIONS))(*(ctypes.cast(getattr(lib, n), POINTER).value for n in FUNCTIONS))
    fake.setup(found, place["devices"], place["overlaps"], lib.ggml_backend_dev_by_type(0))
    arch = build(Config(dict(config)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        write(path, gguf_of(arch).name, arch, config)
        p = lib.llama_model_default_params()
        p.extra, p.load_mode, p.lazy_mode, p.load_mtp, p.n_gpu_layers = False, 0, 0, False, place["gpu-layers"]
        kept = overrides(lib, place.get("cpu-moe", 0))
        p.overrides = ctypes.cast(kept, POINTER)
        model = lib.llama_model_load_from_file(str(path).encode(), p)
    c = context_params(lib, o)
    c.offload_kqv = not place["no-kv-offload"]
    rows = breakdown(lib, lib.llama_init_from_model(model, c))
    made = {lib.ggml_backend_buft_name(at).decode(): sizes for at, *sizes in rows}
    return [made.get(name, (0, 0)) for name in ("CPU", *(f"device {i}" for i in range(place["devices"])))]


def drawn(contexts, seed):
    """Records without sizes: up to four contexts of each architecture whose layers all attend."""
    r, by_arch = random.Random(seed), {}
    for x in contexts["records"]:
        if x["options"]["ctx-size"] <= 9000:
            by_arch.setdefault(x["arch"], []).append(x)
    for found in by_arch.values():
        for x in r.sample(found, min(4, len(found))):
            arch = build(Config(dict(contexts["configs"][x["model"]])))
            if encodes(arch) or two_sided(arch) or sum(int(value_of(w.total)) for w in arch.weights()) > MOST:
                continue
            if any(isinstance(layer.mixer, StateSpace) or layer.wiring == "altup" for layer in arch.layers):
                continue
            n, devices = blocks(arch), r.choice([1, 1, 2])
            place = {"devices": devices, "gpu-layers": r.choice([0, 1, n // 2, n, n + 1, n + 1]), "overlaps":
                     devices > 1 and r.random() < 0.5, "no-kv-offload": r.random() < 0.25}  # fmt: skip
            if any(isinstance(layer.mlp, MoE) for layer in arch.layers) and r.random() < 0.5:
                place |= {"cpu-moe": r.choice([1, n // 2, n]), "gpu-layers": n + 1}
            yield {"context": x["id"], "place": place}


if __name__ == "__main__":
    device = str(Path(sys.argv[1]).resolve())  # its devices are registered once: each record in a child
    again(OUT, drawn, lambda config, o, record: apart(measured, device, config, o, record["place"]))
