"""What a rank's weights take is remembered for its share of a model alone: another share, store or room is weighed."""

from __future__ import annotations

from itertools import product

import pytest

from estimator.commands.memory.question import Memory
from estimator.engines import server_of
from estimator.engines.layers import decoder_layers
from estimator.engines.weights import blocks, rank_bytes
from estimator.questions import ask

OPTIONS = [
    {}, {"tensor_parallel": "2"}, {"pipeline_parallel": "2"}, {"quantization": "fp8"}, {"dtype": "fp16"},
    {"dtype": "fp32"}, {"max_loras": "2"}, {"max_loras": "2", "max_lora_rank": "64"}, {"engine_version": "0.12.0"},
]  # fmt: skip
DEALT = [{"tensor_parallel": "2", "expert_parallel": "2"}, {"data_parallel": "2", "expert_parallel": "2"}]


@pytest.mark.parametrize("model", ["gpt-oss-20b", "qwen3-30b-a3b", "llama-3.2-1b"])
def test_each_share_is_weighed(model):
    found = {}
    for engine, options in product(("vllm", "sglang"), OPTIONS + (DEALT if "llama" not in model else [])):
        asked = server_of(engine).read(ask(Memory, model, {"engine": engine, "gpu": "h100-sxm", **options}))
        n = len(decoder_layers(asked.arch))
        for stage in (range(n), range(n // 2), range(n // 2, n)):
            found[engine, str(options), stage] = rank_bytes(asked, stage)
            assert found[engine, str(options), stage] == sum(size for _, size in blocks(asked, stage))
    assert len(set(found.values())) > 10
