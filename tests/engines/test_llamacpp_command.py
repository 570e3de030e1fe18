"""``--engine llama.cpp`` from the outside: keys, defaults, placement, what fits, people's words, refusals."""

from __future__ import annotations

import json

import pytest

from estimator import api
from estimator.cli import _spelt_out
from estimator.commands.memory.question import Memory
from estimator.engines.llamacpp import question
from estimator.errors import InputError
from estimator.models import load_model
from tests.headers.make import gguf

CARD = {"quantization": "q4_k_m", "gpu": "rtx-4090"}


def memory(model="llama-3-8b", **options):
    return api.memory(model, mode="inference", **options).results()


def test_a_mix_is_llama_cpps_by_default():
    found = memory(quantization="q4_k_m", ctx_size=8192)
    parts = ("weights_bytes", "kv_cache_bytes", "recurrent_bytes", "output_bytes", "compute_bytes")
    assert sum(found[k] for k in parts) == found["host_bytes"] + found["device_bytes"]
    assert found["device_bytes"] == 0
    assert found["kv_cache_bytes"] == 2**30
    assert memory(quantization="Q4_K_M", engine="ollama", ctx_size="8k") == found


def test_the_question_that_started_it():
    """qwen3-32b q4_k_m, 32k tokens of q8_0 cache, on an RTX 4090: yes, just."""
    found = memory("qwen3-32b", ctx_size="32k", kv_dtype="q8_0", **CARD)
    assert found["fits"] == "yes"
    assert 0 < found["margin_bytes"] < 2**30
    assert memory("qwen3-32b", seq_len="32k", cache_type_k="q8_0", cache_type_v="Q8_0", **CARD) == found


def test_sliding_windows_are_kept_where_llama_cpp_keeps_them():
    found = memory("gpt-oss-20b", engine="llama.cpp", ctx_size=4096)
    assert found["kv_cache_bytes"] == 114 * 2**20
    assert memory("gpt-oss-20b", engine="llama.cpp", ctx_size=4096, swa_full=True)["kv_cache_bytes"] == 192 * 2**20


@pytest.mark.parametrize("card", ["12GB", "rtx-3060"])
def test_the_most_layers_and_the_longest_context_are_exact(card):
    """The most are not said not to fit, one more is; those that surely fit are said to, one more is not."""
    options = {"quantization": "q8_0", "gpu": card, "ctx_size": 8192}
    half = options | {"gpu_layers": 20}
    for asked, key, name in ((options, "gpu_layers", "gpu-layers"), (half, "ctx_size", "ctx-size")):
        found = memory("qwen3-14b", **asked)
        most, sure = found[f"{key}.max"], found[f"{key}.sure"]
        assert 0 < sure < most
        said = [memory("qwen3-14b", **asked | {key: n})["fits"] for n in (sure, sure + 1, most, most + 1)]
        assert said == ["yes", "tight", "tight", "no"]
        largest = memory("qwen3-14b", **{k: v for k, v in asked.items() if k != key}, largest=name)
        assert (largest[f"largest.{key}"], largest[f"largest.{key}.sure"]) == (most, sure)


def test_beside_a_tight_verdict_the_layers_and_the_context_are_no_fewer_than_those_asked_for():
    """Qwen3 14B with 16,384 tokens in 12 GB just fits, perhaps: 40 of 41 layers and 16,128 tokens stood below."""
    found = memory("qwen3-14b", quantization="q4_k_m", gpu="12GB", ctx_size=16384)
    assert found["fits"] == "tight"
    assert (found["gpu_layers.max"], found["ctx_size.max"]) == (41, 17920)
    assert (found["gpu_layers.sure"], found["ctx_size.sure"]) == (39, 13824)


def test_what_it_says_would_fit_surely_does(llmcalc):
    """70 billion parameters on a 4090: 45 layers were advised, and were then told that they fit perhaps."""
    line = "memory llama-3.1-70b --quantization q4_k_m --gpu rtx-4090"
    for asked, advised in (("", "--gpu-layers 44"), (" -ngl 46", "--gpu-layers 44"), (" -ngl 40 -c 32k", "--ctx-size")):
        ran = llmcalc(f"{line}{asked} --format json")
        assert f" With {advised}" in ran.json["verdict"]
        advised = ran.json["verdict"].partition(" With ")[2].partition(" it fits")[0].partition(" of ")[0]
        assert llmcalc(f"{line}{asked} {advised} --format json").results["fits"] == "yes"


def test_layers_move_to_the_device_and_nothing_is_lost():
    whole = memory(ctx_size=4096, **CARD)
    some = memory(ctx_size=4096, gpu_layers=10, **CARD)
    none = memory(ctx_size=4096, gpu_layers=0, **CARD)
    assert (
        whole["device_bytes"] > some["device_bytes"] > none["device_bytes"] > 0
    )  # a prompt's products still run there
    for found in (whole, some, none):
        parts = ("weights_bytes", "kv_cache_bytes", "output_bytes", "compute_bytes")
        assert sum(found[k] for k in parts) == found["host_bytes"] + found["device_bytes"]


def test_experts_stay_on_the_host():
    options = {"quantization": "q4_k_m", "ctx_size": 8192, "gpu": "rtx-3090"}
    assert memory("mixtral-8x7b", **options)["fits"] == "no"
    found = memory("mixtral-8x7b", cpu_moe="all", **options)
    assert found["fits"] == "yes"
    assert found["host_bytes"] > 22e9


# public load logs, MiB on the device and on the host: SciSharp/LLamaSharp#1099, ollama/ollama#9221,
# JamePeng/llama-cpp-python#1 (pull), the Llama 2 and gpt-oss (Metal) logs of the same years, and
# ggml-org/llama.cpp#11337 (ROCm)
LOGS = [
    ("qwen2.5-32b", 32768, "b4520", "on", "307.00", "74.01"),
    ("qwen2.5-3b", 4096, "b4701", "off", "300.75", "12.01"),
    ("qwen2.5-32b", 8192, "b4701", "off", "696.00", "26.01"),
    ("qwen2.5-7b", 2048, "b4701", "off", "304.00", None),
    ("llama-2-7b", 4096, "b4701", "off", "296.00", None),
    ("gpt-oss-20b", 4096, "b6100", "on", "404.00", "15.15"),
]


@pytest.mark.parametrize(("name", "tokens", "build", "flash", "device", "host"), LOGS)
def test_compute_buffers_of_public_logs_to_the_printed_digit(name, tokens, build, flash, device, host):
    report = api.memory(
        name, mode="inference", engine="llama.cpp", ctx_size=tokens, engine_version=build, flash_attn=flash, gpu="80GB"
    )
    found = [node.value / 2**20 for node in report.nodes() if node.label == "compute buffer"]
    assert f"{found[0]:.2f}" == device
    assert host is None or f"{found[1]:.2f}" == host


@pytest.mark.parametrize(("mix", "gb"), [("q5_k_m", 2.82), ("q5_k_s", 2.64), ("q4_k_m", 2.39), ("q4_k_s", 2.19)])
def test_files_of_2024_follow_the_quantizer_of_their_build(mix, gb):
    """Phi-3-mini-4k-instruct's GGUF files as its card lists them; tokens and merges add 0.8 MB."""
    found = memory("phi-3-mini-4k", quantization=mix, engine_version="b2700")
    assert round((found["weights_bytes"] + 800_000) / 1e9, 2) == gb


@pytest.mark.parametrize(("mix", "gb"), [("q4_k_m", 10.36), ("q5_k_m", 11.85), ("q6_k", 14.06), ("iq4_xs", 8.57)])
def test_files_before_latents_hold_an_expansion_whole(mix, gb):
    """DeepSeek-Coder-V2-Lite's GGUF files as a table of 2024 lists them, cut to two digits; tokens take 3 to 7 MB."""
    found = memory("deepseek-v2-lite", quantization=mix, engine_version="b3200", imatrix=True)
    assert {int((found["weights_bytes"] + header) / 1e7) / 100 for header in (3e6, 6.9e6)} == {gb}


def test_unequal_cards_share_whole_layers():
    options = {"quantization": "q4_k_m", "ctx_size": 8192}
    report = api.memory("qwen3-32b", mode="inference", gpu="rtx-3090,rtx-3060", tensor_split="3,1", **options)
    one = memory("qwen3-32b", gpu="80GB", **options)
    found = report.results()
    assert found["weights_bytes"] == one["weights_bytes"]
    assert found["fits"] == "yes"


@pytest.mark.thorough
def test_a_table_of_mixes_names_the_best():
    report = api.memory("qwen3-32b", mode="inference", quantization="all", ctx_size="16k", gpu="rtx-4090")
    found = report.results()
    assert found["best.mix"] == "q4_k_m"
    assert found["q4_k_m.weights_bytes"] == memory("qwen3-32b", quantization="q4_k_m")["weights_bytes"]
    assert "q4_k_m" in report.verdict


def test_the_cache_alone():
    found = api.kvcache("deepseek-v3", engine="llama.cpp", ctx_size="32k", kv_dtype="q8_0").results()
    assert found["latent_bytes"] == found["kv_cache_bytes"] == 61 * 32768 * 576 // 32 * 34
    found = api.kvcache("llama-3-8b", **CARD).results()
    assert found["bytes_per_token"] == 131072
    assert found["max_tokens"] > 100_000
    assert found["max_batch"] > 10


def test_hosts_and_layers_slow_a_token_down():
    fast = api.infer("llama-3-8b", **CARD).results()
    slow = api.infer("llama-3-8b", gpu_layers=16, host="50GB/s", **CARD).results()
    host = api.infer("llama-3-8b", gpu_layers=0, host="50GB/s", **CARD).results()
    steps = [x["decode_step_seconds"] for x in (fast, slow, host)]
    assert steps == sorted(steps)
    assert host["decode_step_seconds"] > 4e9 / 50e9
    assert all(x["decode_step_seconds.ideal"] <= x["decode_step_seconds"] for x in (fast, slow, host))


def test_speed_follows_the_build():
    old, recent = (api.infer("llama-3-8b", engine_version=b, **CARD).results() for b in ("b3000", "b11549"))
    both = api.infer("llama-3-8b", **CARD).results()
    for key in ("decode_step_seconds", "prefill_seconds"):
        assert both[f"recent.{key}"] == recent[key] < both[key]
        assert abs(both[key] / old[key] - 1) < 0.02  # the graph of an older build differs by a few kernels
    assert "recent.decode_step_seconds" not in recent


def test_speed_needs_a_card_by_name():
    with pytest.raises(InputError, match="a preset of a GPU"):
        api.infer("llama-3-8b", quantization="q4_k_m", gpu="12GB")


def test_words_that_may_stand_alone():
    assert _spelt_out(["-fa", "-ngl", "99"], "memory") == ["--flash-attn=on", "-ngl", "99"]
    assert _spelt_out(["-fa", "off", "--cpu-moe"], "memory") == ["-fa", "off", "--cpu-moe=all"]
    assert _spelt_out(["--cpu-moe", "3", "-fa"], "memory") == ["--cpu-moe", "3", "--flash-attn=on"]
    assert _spelt_out(["-cmoe", "--derive"], "memory") == ["--cpu-moe=all", "--derive=steps"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"quantization": "nf4", "engine": "llama.cpp"}, "GGUF mixes"),
        ({"quantization": "q4_k_m", "kv_dtype": "fp8"}, "q8_0"),
        ({"quantization": "q4_k_m", "cache_type_v": "q8_0", "flash_attn": "off"}, "--flash-attn on"),
        ({"quantization": "q4_k_m", "max_model_len": 8}, "--max-model-len"),
        ({"quantization": "q4_k_m", "tensor_parallel": 2}, "--tensor-parallel"),
        ({"quantization": "q4_k_m", "gpu": "rtx-3090", "tensor_split": "1,2"}, "--tensor-split"),
        ({"quantization": "q4_k_m", "gpu": "rtx-3090", "gpu_layers": "most"}, "--gpu-layers"),
        ({"quantization": "q4_k_m", "flash_attn": "maybe"}, "--flash-attn"),
        ({"quantization": "q4_k_m", "ctx_size": "long"}, "--ctx-size"),
        ({"quantization": "q4_k_m", "engine_version": "latest"}, "--engine-version"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, word):
    with pytest.raises(InputError, match=word) as error:
        memory(**options)
    assert "\n" not in str(error.value)


def test_a_mix_of_a_family_without_a_graph_stays_with_transformers():
    assert "moments.load_bytes" in memory("opt-125m", quantization="q4_k_m")


def test_other_models_are_refused():
    for name, word in (("bart-base", "llama.cpp"), ("symbolic", "symbolic")):
        with pytest.raises(InputError, match=word):
            memory(name, engine="llama.cpp")
    with pytest.raises(InputError, match="--host"):
        api.infer("llama-3-8b", host="fast", **CARD)


@pytest.mark.thorough
def test_more_layers_than_llama_cpp_takes_are_refused_before_their_graph_is_laid_out(llmcalc):
    """``infer`` laid out fourteen graphs of 16,001 layers for its advice: a minute."""
    line = "--model llama-3-8b --set num_hidden_layers=9001"
    ran = llmcalc(f"memory {line} --engine llama.cpp --quantization q4_k_m --gpu h100-sxm")
    assert (ran.code, "at most 512 layers, got 9,001" in ran.err) == (2, True)
    assert "Does not fit" in llmcalc(f"infer {line} --gpu h100-sxm").out


def test_gemma_3n_without_the_inputs_of_its_layers_is_refused(llmcalc, tmp_path):
    """Its graph adds them to every layer; ``infer`` of such a file ended in an AssertionError."""
    config = tmp_path / "config.json"
    sizes = {"num_hidden_layers": 4, "num_kv_shared_layers": 1, "hidden_size_per_layer_input": 0}
    config.write_text(json.dumps({"model_type": "gemma3n_text", **sizes}))
    line = f"--model {config} --gpu h100-sxm"
    for command in ("memory", "kvcache", "infer"):
        ran = llmcalc(f"{command} {line} --engine llama.cpp --quantization q4_k_m")
        assert (ran.code, ran.err.count("\n"), "this model's are 0 wide" in ran.err) == (2, 1, True)
    assert llmcalc(f"infer {line}").code == 0


def test_a_token_more_is_what_the_cache_grows_by_where_layers_reuse_keys(tmp_path):
    """Of Gemma 3n's six full layers two read what another keeps; they were counted."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "gemma3n_text", "num_hidden_layers": 30, "num_kv_shared_layers": 10}))
    short, long = (
        api.kvcache(str(config), engine="llama.cpp", quantization="q4_k_m", ctx_size=n).results() for n in (8192, 16384)
    )
    assert short["bytes_per_token"] == 4 * 2 * 2 * 256 * 2
    assert long["kv_cache_bytes"] - short["kv_cache_bytes"] == 8192 * short["bytes_per_token"]


def test_experts_stay_on_the_host_by_name():
    asked = {"quantization": "q4_k_m", "gpu": "rtx-3060"}
    every = api.memory("qwen3-30b-a3b", cpu_moe="all", **asked).results()
    for pattern in ("exps=CPU", r".ffn_.*_exps.=CPU", r"blk\.\d+\.ffn_(gate|up|down)_exps=CPU"):
        assert api.memory("qwen3-30b-a3b", override_tensor=pattern, **asked).results() == every
    some = api.memory("qwen3-30b-a3b", override_tensor=r"blk\.(0|1|2)\.ffn_.*_exps=CPU", **asked).results()
    assert some == api.memory("qwen3-30b-a3b", cpu_moe="3", **asked).results()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("foo", "PATTERN=CPU"), ("exps=CUDA0", "to CPU alone"), ("ffn_up_exps=CPU", "only whole experts"),
        ("attn=CPU", "only whole experts"), ("(a+)+=CPU", "none of a group"), ("[=CPU", "no regular expression"),
        ("nothing=CPU", "no experts have such a name"), ("=CPU", "PATTERN=CPU"),
    ],
)  # fmt: skip
def test_what_else_a_pattern_asks_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        api.memory("qwen3-30b-a3b", quantization="q4_k_m", override_tensor=given)


def test_an_encoder_keeps_no_cache_and_generates_nothing():
    asked = {"engine": "llama.cpp", "quantization": "f16"}
    found = api.memory("bert-base-uncased-encoder", ctx_size=512, pooling="cls", **asked).results()
    assert found["kv_cache_bytes"] == 0
    assert found["output_bytes"] == 4 * (30522 + 768)
    assert api.kvcache("bert-base-uncased-encoder", **asked).results()["bytes_per_token"] == 0
    with pytest.raises(InputError, match="generates nothing"):
        api.infer("bert-base-uncased-encoder", gpu="rtx-3060", **asked)
    with pytest.raises(InputError, match="is no encoder"):
        api.memory("qwen3-8b", pooling="cls", **asked)


def test_a_decoder_beside_an_encoder_caches_a_layer_a_block():
    asked = {"engine": "llama.cpp", "quantization": "q4_k_m"}
    found = api.kvcache("flan-t5-base", ctx_size=4096, **asked)
    assert found.results()["bytes_per_token"] * 4096 == found.results()["kv_cache_bytes"] == 12 * 2 * 2 * 768 * 4096
    assert any("over 512 rows of the encoder" in x for x in found.assumptions)
    assert api.memory("flan-t5-base", **asked).results()["output_bytes"] == 4 * (32128 + 768)
    with pytest.raises(InputError, match="speed with an encoder was not measured"):
        api.infer("flan-t5-base", gpu="rtx-3060", **asked)
    with pytest.raises(InputError, match="Add --kv-unified"):
        api.memory("flan-t5-base", parallel=2, **asked)
    assert api.memory("flan-t5-base", parallel=2, kv_unified=True, **asked).results()["kv_cache_bytes"]


def test_every_sequence_has_a_row_of_logits():
    """GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) ends build 11549; rows as the server asks are enough."""
    asked = {"engine": "llama.cpp", "quantization": "q4_k_m", "parallel": 4}
    for less in ({"outputs": 1}, {"outputs": "all", "logical_batch": 2}):
        with pytest.raises(InputError, match="4 sequences may have"):
            api.memory("qwen3-0.6b", **less, **asked)
    for enough in ({"outputs": 4, "logical_batch": 2}, {"logical_batch": 2}, {"outputs": 1, "engine_version": "b8000"}):
        assert api.memory("qwen3-0.6b", **asked, **enough).results()["compute_bytes"]


def test_a_decoder_deeper_than_its_encoder_is_refused(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "t5", "num_layers": 2, "num_decoder_layers": 4}))
    with pytest.raises(InputError, match="more layers than its encoder: 4, and 2"):
        api.memory(str(config), engine="llama.cpp")


def test_a_mean_needs_every_row_of_a_micro_batch():
    """ggml_can_mul_mat fails in build 11549, and the program ends."""
    asked = {"engine": "llama.cpp", "quantization": "f16", "pooling": "mean"}
    with pytest.raises(InputError, match="512 rows of 513 tokens"):
        api.memory("bert-base-uncased-encoder", parallel=3, ctx_size=4096, **asked)
    api.memory("bert-base-uncased-encoder", parallel=3, ctx_size=4096, ubatch_size=513, **asked)


def test_older_builds_expand_latent_attention():
    """DeepSeek R1 on eight MI250 in February 2025: 8,192 cells of 61 layers, K 23,424 and V 15,616 MiB."""
    older = api.kvcache("deepseek-r1", quantization="q4_k_m", ctx_size=8192, engine_version="b4600").results()
    assert older["kv_cache_bytes"] == (23424 + 15616) * 2**20
    assert api.kvcache("deepseek-r1", quantization="q4_k_m", ctx_size=8192).results()["kv_cache_bytes"] < 2**30


def test_what_does_not_fit_keeps_as_few_experts_on_the_host_as_it_takes():
    asked = {"quantization": "q4_k_m", "gpu": "rtx-3060", "ctx_size": "32k"}
    found = api.memory("qwen3-30b-a3b", **asked)
    n = found.results()["cpu_moe.min"]
    assert f"With --gpu-layers all --cpu-moe {n} it fits" in found.verdict
    said = [api.memory("qwen3-30b-a3b", cpu_moe=str(x), **asked).results()["fits"] for x in (n - 1, n)]
    assert said == ["tight", "yes"]
    assert "--cpu-moe" not in api.memory("qwen3-30b-a3b", ram="2GB", **asked).verdict


def test_the_longest_context_stands_beside_the_fewest_experts_on_the_host():
    asked = {"engine": "llama.cpp", "quantization": "q4_k_m", "gpu_memory": "5GiB", "ctx_size": "16k"}
    found = api.kvcache("olmoe-1b-7b", **asked).results()
    assert found["cpu_moe.min"] > 0
    assert found["max_tokens"] == found["ctx_size.max"] > 0


def test_gpt_oss_is_a_file_of_its_own_experts_type():
    """convert_hf_to_gguf.py keeps a checkpoint's MXFP4 experts: 12.1 GB, where a file in bf16 of 42 GB was taken."""
    found = api.memory("gpt-oss-20b", engine="llama.cpp")
    assert found.results()["weights_bytes"] == 12_096_558_336
    assert any("--quantization not given: mxfp4_moe" in said for said in found.assumptions)
    for name in ("mxfp4", "mxfp4_moe"):
        assert memory("gpt-oss-20b", engine="llama.cpp", quantization=name)["weights_bytes"] == 12_096_558_336
    for plain in ({"quantization": "bf16"}, {"dtype": "bf16"}):
        assert memory("gpt-oss-20b", engine="llama.cpp", **plain)["weights_bytes"] > 40e9


def test_three_commands_load_the_same_file():
    """A checkpoint whose experts lie in MXFP4: 63,374,323,968 bytes of mxfp4_moe, not 233,765,491,968 of bf16."""
    same = {"engine": "llama.cpp", "gpu": "m4-max", "ctx_size": 8192}
    for ask in (api.memory, api.infer, api.kvcache):
        made, plain = ask("gpt-oss-120b", **same), ask("gpt-oss-120b", dtype="bf16", **same)
        assert (made.inputs["quantization"], plain.inputs["quantization"]) == ("mxfp4_moe", "bf16")
        assert made.title.startswith("gpt-oss-120b mxfp4_moe, 8,192 tokens")
        assert made.results()["need_bytes"] == 63_822_011_264
        assert (made.facts["fits"], plain.facts["fits"]) == ("yes", "no")


def test_what_no_build_of_2024_could_run_is_timed_by_those_of_2025():
    """gpt-oss-120b on a DGX Spark: 1,689 to 1,979 prompt tokens a second in public tables; 494 were said."""
    for name, card in (("llama-3.1-8b", "rtx-5090"), ("gpt-oss-20b", "rtx-4090"), ("llama-3.1-8b", "rx-9070-xt")):
        asked = {"gpu": card, "quantization": "mxfp4" if "oss" in name else "q4_k_m", "engine": "llama.cpp"}
        found = api.infer(name, **asked).results()
        newer = api.infer(name, **asked, engine_version="b11549").results()
        assert found["prefill_seconds"] == newer["prefill_seconds"]
        assert "recent.prefill_seconds" not in found
    older = api.infer("llama-3.1-8b", gpu="rtx-4090", quantization="q4_k_m").results()
    assert older["recent.prefill_seconds"] < older["prefill_seconds"]


def test_several_of_one_card_are_said_by_their_number_too(llmcalc):
    """``infer --gpu 3060 --gpus 2`` was two cards, then refused; ``memory`` took one."""
    for command in ("memory", "infer"):
        two = llmcalc(f"{command} qwen3:8b --gpu 3060 --gpus 2 --format json")
        assert two.results == llmcalc(f"{command} qwen3:8b --gpu 3060,3060 --format json").results
    asked = {"engine": "llama.cpp", "quantization": "all"}
    mixes = [api.memory("qwen3-8b", gpu=x, gpus=n, **asked) for x, n in (("rtx-3060", 2), ("rtx-3060,rtx-3060", None))]
    rates = [[row[-1] for row in report.body[0].rows] for report in mixes]
    assert rates[0] == rates[1]
    assert mixes[0].results() == mixes[1].results()
    for line, said in (
        ("--gpu 3060,4070 --gpus 3", "--gpus 3, but --gpu names 2"),
        ("--gpus 2", "--gpus 2, but --gpu names 0"),
        ("--gpu 3060 --gpus 17", "--gpus 17: llama.cpp takes at most 16 devices"),
    ):
        assert said in llmcalc(f"memory qwen3:8b {line}").err


def test_its_own_batch_is_not_taken_for_sequences():
    with pytest.raises(InputError, match="at most 256 sequences, got 512; its own -b is --logical-batch"):
        memory(batch_size=512, **CARD)


def test_an_encoders_file_says_how_its_rows_become_one(tmp_path):
    pairs = {
        "general.architecture": "bert", "bert.block_count": 1, "bert.embedding_length": 64, "bert.context_length": 32,
        "bert.feed_forward_length": 128, "bert.attention.head_count": 2, "bert.pooling_type": 2,
    }  # fmt: skip
    shapes = {"token_embd.weight": (100, 64), "position_embd.weight": (32, 64), "token_types.weight": (2, 64)}
    gguf(tmp_path / "m.gguf", pairs, {n: (0, s, 4 * s[0] * s[1]) for n, s in shapes.items()})
    own = api.memory(str(tmp_path / "m.gguf"))
    assert not any("--pooling" in x for x in own.assumptions)
    other = api.memory(str(tmp_path / "m.gguf"), pooling="mean", logical_batch=32)
    named = api.memory(str(tmp_path / "m.gguf"), pooling="cls")
    assert own.results() == named.results() != other.results()


def test_the_search_for_the_most_sequences_ends_where_llama_cpp_does():
    """``--largest batch-size`` of a model without a cache ended in the refusal of 2,048 sequences."""
    report = api.memory("mamba-130m", engine="llama.cpp", quantization="q4_k_m", gpu="rtx-3060", largest="batch-size")
    assert report.results()["largest.batch_size"] == 256


def test_the_context_of_a_t5_is_its_files():
    asked = {"engine": "llama.cpp", "quantization": "q4_k_m"}
    for given in ({}, {"ctx_size": 0}):
        assert api.kvcache("t5-small", **given, **asked).results()["n_ctx"] == 512


def loaded(name, **options):
    """What llama.cpp loads on one card."""
    return question.asked(Memory(model=load_model(name), engine="llama.cpp", gpu="rtx-4090", **options)).load


def test_a_tied_output_is_the_tokens_table_alone(tmp_path):
    """src/llama-arch.cpp: tables are inputs, on the host; of Gemma 3n's two the layers' own is no output."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "gemma3n_text"}))
    a = loaded(str(config), quantization="q8_0")
    token, own = (rows * width * 34 // 32 for rows, width in ((262400, 2048), (262144, 35 * 256)))
    assert a.weights.token == token
    assert a.host.weights == a.weights.table == token + own
    assert a.devices[0].weights == a.weights.total - own


def test_what_norms_the_embeddings_lies_with_the_first_layer():
    load = loaded("bert-base-uncased-encoder", quantization="f16")
    assert load.weights.table == 2 * 30522 * 768 + 4 * (512 + 2) * 768
    assert load.weights.layers[0].rest - load.weights.layers[1].rest == 4 * 2 * 768
    assert load.weights.output == 0


@pytest.mark.parametrize("card", ["", "--gpu rtx-3060", "--gpu-memory 12GB"])
def test_a_table_of_mixes_has_a_column_for_each_cell(llmcalc, card):
    ran = llmcalc(f"memory qwen3-0.6b --engine llama.cpp --quantization all {card} --format csv")
    assert len({len(line.split(",")) for line in ran.out.strip().splitlines()}) == 1
