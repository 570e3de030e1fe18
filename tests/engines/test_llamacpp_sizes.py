"""llama.cpp's own byte counts: caches, recurrent states, output and compute buffers, weights in every mix. All equal.

The two data files say what measured them. Architectures whose family is not known yet are left out by name, so that a
new family has to pass.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from estimator import api
from estimator.config import Config
from estimator.engines.llamacpp.allocate import compute_bytes
from estimator.engines.llamacpp.caches import check, kept
from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.model import build as micro_batch
from estimator.engines.llamacpp.weights import of_mix
from estimator.errors import InputError
from estimator.families import FAMILIES, build
from estimator.families.common_gguf import gguf_of, of_side, two_sided
from estimator.formulas.llamacpp import gguf_output_bytes
from estimator.models import load_model
from estimator.storage.gguf_mix import mix_storage

HERE = Path(__file__).parent


@cache
def load(name):
    return json.loads(gzip.decompress((HERE / name).read_bytes()))


def context(o):
    return Context(
        o["ctx-size"], o["parallel"], o["logical-batch"], o["ubatch-size"], o["cache-type-k"], o["cache-type-v"],
        o["flash-attn"] != "off", o.get("swa-full", False), o.get("kv-unified", False),
        None if o["outputs"] == "all" else o["outputs"], pooling=o.get("pooling", ""),
    )  # fmt: skip


@cache
def by_id():
    return {r["id"]: r for r in load("llamacpp_contexts.json.gz")["records"]}


def asked(name):
    """The architecture and the context of a record."""
    r = by_id()[name]
    return build(Config(load("llamacpp_contexts.json.gz")["configs"][r["model"]])), context(r["options"])


def by_arch():
    out = {}
    for r in load("llamacpp_contexts.json.gz")["records"]:
        if load("llamacpp_contexts.json.gz")["configs"][r["model"]]["model_type"] in FAMILIES:
            out.setdefault(r["arch"], []).append(r)
    return out


def sizes(config, options, side=""):
    """The four byte counts of a context; side: of an encoder-decoder's encoder or decoder alone."""
    arch = of_side(build(Config(config)), side) if side else build(Config(config))
    gguf = gguf_of(arch)
    made = replace(context(options), cached=gguf.sided)
    check(arch, made)
    embeds = made.pooling or two_sided(arch)
    held = [k for layer in arch.layers for k in kept(layer, arch, gguf, made)]
    graph = micro_batch(arch, gguf, made).graph
    return {
        "kv_cache_bytes": sum(h.bytes for h in held if h.kind != "recurrent"),
        "recurrent_bytes": sum(h.bytes for h in held if h.kind == "recurrent"),
        "output_bytes": gguf_output_bytes(made.sequences, arch.vocab, arch.hidden if embeds else 0),
        "compute_bytes": compute_bytes(graph.inputs, graph.nodes)[0],
    }


@pytest.mark.parametrize("arch", sorted(by_arch()))
def test_a_context_takes_what_llama_cpp_allocates(arch):
    configs = load("llamacpp_contexts.json.gz")["configs"]
    for r in by_arch()[arch]:
        assert sizes(configs[r["model"]], r["options"]) == r["want"], r["id"]


def test_an_encoder_beside_a_decoder_takes_what_it_takes_alone():
    """Whose pass llama.cpp reserves only where there is no decoder."""
    configs = load("llamacpp_contexts.json.gz")["configs"]
    alone = [r for r in by_arch()["t5encoder"] if r["options"]["pooling"] == "none"]
    assert alone
    for r in alone:
        whole = configs[r["model"]] | {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}
        assert sizes(whole, r["options"], "encoder")["compute_bytes"] == r["want"]["compute_bytes"], r["id"]


def test_what_llama_cpp_refuses_is_refused():
    data = load("llamacpp_contexts.json.gz")
    for r in data["refused"]:
        with pytest.raises(InputError, match="--cache-type"):
            check(build(Config(data["configs"][r["model"]])), context(r["options"]))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["plain", "imatrix"])
def test_mixes_are_the_quantizers(kind):
    data, configs = load("llamacpp_mixes.json.gz"), load("llamacpp_contexts.json.gz")["configs"]
    for r in data["records"]:
        if configs[r["model"]]["model_type"] not in FAMILIES:
            continue
        arch = build(Config(configs[r["model"]]))
        for mix, want in zip(data["mixes"], r[kind], strict=True):
            if want is not None:
                assert mix_storage(arch, mix, kind == "imatrix").bytes == want, (r["model"], mix)


def published():
    return json.loads((HERE / "gguf_published.json").read_text())


def test_published_files_are_equal_to_the_byte():
    """24 files of one repository, the ``_L`` mixes among them: weights, and one header of names and tokens for all."""
    data = published()
    arch = load_model("qwen3-1.7b", ["tie_word_embeddings=false"]).architecture
    for mix, size in data["bytes"].items():
        header = data["header_bf16" if mix == "bf16" else "header"]
        weights = of_mix(arch, mix, mix != "bf16", data["build"])
        assert weights.total + header == size, mix


def test_a_dynamic_mix_is_the_nearest_of_a_rule_and_a_range():
    exact = load_weights("q4_k_m")
    found = load_weights("UD-Q4_K_XL")
    assert found.bytes == exact.bytes
    assert "0.91 to 1.13 times" in found.notes[0]
    assert load_weights("ud-q8_k_xl").bytes == load_weights("q8_0").bytes
    mixes = ("q4_k_m", "UD-Q4_K_XL")
    fits = {mix: api.memory("qwen3-32b", quantization=mix, gpu="rtx-4090").results() for mix in mixes}
    assert fits["UD-Q4_K_XL"]["need_bytes"] == fits["q4_k_m"]["need_bytes"]
    wide = fits["UD-Q4_K_XL"]["need_bytes.high"] - fits["q4_k_m"]["need_bytes.high"]
    assert wide == pytest.approx(0.13 * fits["q4_k_m"]["device_bytes"], rel=0.1)


def load_weights(mix):
    from estimator.storage import stored_weights

    return stored_weights(load_model("qwen3-1.7b").architecture, mix)


def test_what_a_model_brings_beside_its_weights_is_counted_where_asked():
    plain = api.memory("gemma-3-12b-multimodal", quantization="q4_k_m", gpu="rtx-3060").results()
    seen = api.memory("gemma-3-12b-multimodal", quantization="q4_k_m", gpu="rtx-3060", mmproj="f16").results()
    assert seen["device_bytes"] - plain["device_bytes"] == seen["mmproj_bytes"] > 8e8
    alone = api.memory("qwen3-0.6b", quantization="q8_0", gpu="rtx-3060").results()
    pair = {"quantization": "q4_k_m", "gpu": "rtx-3060"}
    both = api.memory("qwen3-8b", model_draft="qwen3-0.6b:q8_0", **pair).results()
    one = api.memory("qwen3-8b", **pair).results()
    for key in ("device_bytes", "host_bytes"):
        assert both[key] == one[key] + alone[key]
    assert both["ctx_size.max"] < one["ctx_size.max"]


def test_the_host_is_asked_whether_the_rest_fits():
    experts = {"quantization": "mxfp4_moe", "gpu": "rtx-3060", "cpu_moe": "all"}
    assert api.memory("gpt-oss-120b", ram="64GB", **experts).results()["fits"] == "yes"
    less = api.memory("gpt-oss-120b", ram="48GB", **experts)
    assert less.results()["fits"] == "no"
    assert less.verdict.startswith("Does not fit: gpt-oss-120b's part there needs 57.48 GiB")


def test_files_of_older_quantizers_are_named():
    said = api.memory("phi-3-mini-4k", quantization="q5_k_m").assumptions
    assert any("before 2025" in x and "2.62 GiB" in x for x in said)
    older = api.memory("phi-3-mini-4k", quantization="q5_k_m", engine_version="b4000").results()
    assert older["weights_bytes"] == pytest.approx(2.62 * 2**30, rel=0.002)
