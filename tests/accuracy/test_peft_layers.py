"""One adapted linear layer of every method of peft, its levels of memory beside the allocator's own record.

``benchmarks/record_adapters.py`` recorded what one layer of peft 0.21.2 allocates in its forward and its backward pass,
in four formats. The levels are compared in bytes that were asked for; what differs by a few kilobytes are the copies
that cuBLAS makes of single columns and tensors of a few numbers.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from estimator import api
from estimator.families.base import Architecture
from estimator.peft import find
from estimator.peft.asked import build_adapter
from estimator.peft.simulated import specs
from estimator.stack.engine import backward
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.tape import Param, Tape, Tensor

DATA = json.loads(gzip.decompress((Path(__file__).parent / "peft_layers.json.gz").read_bytes()))
HIDDEN, INNER, BATCH, TOKENS = 512, 768, 2, 192
LEVELS = ("forward's most", "forward's end", "backward's most", "backward's end")
NEAR = 12_288  # bytes
# what is further off, by the beginning of its name, in bytes: its cause
FAR = {
    "oft-share|down_proj|fp32|True|True": 49_152,  # the repeated blocks' gradient, converted late
    "osf|down_proj|fp32|True|True": 524_288,  # the hook of U runs while the input's gradients wait
    "waveft": 8_700_000,  # cuDNN's workspace, and a quarter of the spectrum where its gradient is put together
    "deft-qr|down_proj|fp32|True|True": 246_000,  # cuSOLVER's workspace
    "deft-para|down_proj|fp32|True|True": 16_384,  # the columns' gradient, converted late
    "supertuning|down_proj|fp32|True|True": 196_608,  # the values' gradient comes before the input's
    "supertuning-lora|down_proj|fp32|True|True": 196_608,  # as above
    "frod|down_proj|fp32": 590_000,  # cuSPARSE's buffers; under autocast the sum that goes into the last product
}


def named(cls: str) -> str:
    return cls.removesuffix("Config").lower()


CASES = [k for k in DATA["levels"] if find(named(DATA["cases"][k.split("|")[0]][0])).forward is not None]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Architecture]:
    found = {}
    for bias in (False, True):
        config = {
            "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": 4,
            "num_key_value_heads": 4, "num_hidden_layers": 1, "vocab_size": 500, "mlp_bias": bias,
            "attention_bias": bias, "architectures": ["LlamaForCausalLM"],
        }  # fmt: skip
        path = tmp_path_factory.mktemp("model") / "config.json"
        path.write_text(json.dumps(config))
        found[bias] = api.load_model(str(path)).architecture
    return found


def linears(arch: Architecture):
    for layer in arch.layers:
        yield from (*layer.mixer.projections, layer.mixer.out, *layer.mlp.linears)


def levels(log, live: int) -> list[int]:
    most = live
    for sign, (n, _) in log:
        live += sign * n
        most = max(most, live)
    return [most, live]


def simulated(case: str, models: dict[bool, Architecture]) -> list[int]:
    name, matrix, dtype, cast, autocast = case.split("|")
    cls, given = DATA["cases"][name]
    arch, width = models[name.endswith("-bias")], {"bf16": 2, "fp32": 4}[dtype]
    adapter = build_adapter(arch, "the model", {}, named(cls), None, [matrix], given)
    found, _ = specs(adapter, arch, 4 if cast == "True" else width)
    t = Tape(True, autocast == "True")
    t.counts = lambda n: n
    m = Machine(t, BATCH, TOKENS, TOKENS, width, trains=lambda _: False, adapters=found.get)
    lin = next(x for x in linears(arch) if x.name.endswith("." + matrix))
    x = Param(BATCH * TOKENS * lin.d_in, width, "x", True)
    out = [linear(m, x, lin)]
    t.leave_autocast()
    ahead = levels(t.log, 0)
    forward_end = len(t.log)
    loss, gradient = Tensor(0, 0, None, out[0].node), Tensor(out[0].n, out[0].w, None)
    backward(t, loss, given=gradient)
    out.clear()
    back = levels(t.log[forward_end:], ahead[1])
    return [*ahead, *(n - ahead[1] for n in back)]


@pytest.mark.whole
@pytest.mark.parametrize("case", CASES)
def test_levels(case: str, models: dict[bool, Architecture]) -> None:
    found = simulated(case, models)
    near = next((n for name, n in FAR.items() if case.startswith(name)), NEAR)
    for what, ours, real in zip(LEVELS, found, DATA["levels"][case], strict=True):
        assert abs(ours - real) <= near, what
