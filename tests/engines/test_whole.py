"""A rank of one GPU holds every weight of the model: nothing is lost or held twice on the way to an engine."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from estimator import api, presets
from estimator.commands.memory.question import Memory
from estimator.config import Config
from estimator.engines import server_of, weights
from estimator.engines.layers import decoder_layers
from estimator.errors import InputError
from estimator.models import Model, load_model
from estimator.parallel.job import stage_weights
from estimator.parallel.pipeline import Stage
from estimator.parallel.tensor import Cut
from estimator.questions import ask
from estimator.storage import model_storage
from estimator.trace import value_of

DATA = Path(__file__).parents[1] / "data"
OWN = ("rotary table", "kv_b absorbed")  # what an engine adds
E2B = {
    "model_type": "gemma3n_text", "hidden_size": 2048, "intermediate_size": [8192] * 30, "num_hidden_layers": 30,
    "num_kv_shared_layers": 10, "vocab_size": 262400, "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 6,
    "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20,
}  # fmt: skip
TABLE, TOKENS = 262144 * 30 * 256 * 2, 262400 * 2048 * 2


def recorded():
    for path in sorted(DATA.glob("family_variants_*.json*")):
        raw = path.read_bytes()
        data = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        cases = data.get("cases", data) if isinstance(data, dict) else data
        for case in cases.values() if isinstance(cases, dict) else cases:
            if "config" in case:
                yield case["config"]["model_type"], case["config"]


def models():
    found = [pytest.param(lambda name=name: load_model(name), id=name) for name in presets.ids("models")]
    met = set()
    for kind, config in recorded():
        if kind not in met:
            met.add(kind)
            found.append(pytest.param(lambda c=config, k=kind: Model(k, "file", Config(c)), id=f"recorded-{kind}"))
    return found


def held(model, engine="vllm", **options):
    """Bytes of every tensor of a rank, by name."""
    asked = server_of(engine).read(ask(Memory, model, {"engine": engine, **options}))
    out: dict[str, int] = {}
    for name, size in weights.tensors(asked, range(len(decoder_layers(asked.arch)))):
        out[name] = out.get(name, 0) + size
    return out


@pytest.mark.parametrize("load", models())
def test_every_weight_is_held_once(load, monkeypatch):
    monkeypatch.setattr(weights, "VOCAB_MULTIPLE", 1)
    model = load()
    try:
        made = held(model)
    except InputError:
        return  # no engine serves it
    if model.declared.scheme is not None and model.declared.scheme.name == "mxfp4":
        return  # padded to tiles: tests/engines/test_published_logs.py
    if any(a.routed is not None for a in model.architecture.attentions):
        return  # experts in place of projections, which no engine has
    want = int(value_of(model_storage(model, None, "bf16").bytes))
    assert sum(n for name, n in made.items() if not name.startswith(OWN)) == want


def test_the_table_of_each_layers_input_is_cut_in_vllm_and_copied_in_sglang():
    """262,144 rows of 30 x 256 numbers: they were lost, 4.03 GB; SGLang's tables there are torch.nn.Embedding."""
    model = Model("gemma-3n-e2b", "file", Config(E2B))
    for engine, degree, table, tokens in (("vllm", 1, TABLE, TOKENS), ("vllm", 2, TABLE // 2, TOKENS // 2),
                                          ("sglang", 1, TABLE, TOKENS), ("sglang", 2, TABLE, TOKENS)):  # fmt: skip
        made = held(model, engine, tensor_parallel=degree)
        assert made["model.embed_tokens_per_layer.weight#0"] == table
        assert made["model.embed_tokens.weight#0"] == tokens
        assert made["model.per_layer_model_projection.weight#0"] == 2048 * 30 * 256 * 2 // degree
        assert made["model.altup_projections.{i}.weight#0"] == 3 * 2048 * 2048 * 2 // degree
        assert made["model.layers.{i}.laurel.linear_left.weight#0"] == 30 * 2048 * 64 * 2 // degree


def test_tensor_parallel_training_holds_it_too():
    arch = Model("gemma-3n-e2b", "file", Config(E2B)).architecture
    stage = Stage(0, tuple((x, x.times) for x in arch.layers), True, True)
    one, two = (sum(int(w.total) for w in stage_weights(arch, stage, Cut(n), 1)) for n in (1, 2))
    assert one == sum(int(w.total) for w in arch.weights())
    assert 2 * two < 1.01 * one


def test_weights_beside_the_layers_are_in_the_answer():
    found = api.memory(Model("gemma-3n-e2b", "file", Config(E2B)), mode="inference", engine="vllm", gpu="l4").results()
    plain = api.memory(Model("gemma-3n-e2b", "file", Config(E2B)), mode="inference", gpu="l4").results()
    assert plain["weights_bytes"] < found["weights_bytes"] < plain["weights_bytes"] + 2**27  # blocks, rotary tables
