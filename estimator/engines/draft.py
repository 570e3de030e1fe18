"""The draft model of speculative decoding on the served model's GPUs: its weights, and its share of every block.

Source: vLLM v1/worker/gpu_model_runner.py of 0.19.0, load_model (the draft is loaded beside the model, with its tensor
degree) and v1/core/kv_cache_utils.py (its layers keep every token's keys and values in the same blocks).
"""

from __future__ import annotations

from dataclasses import replace

from estimator.engines.asked import ServerAsked
from estimator.engines.layers import decoder_layers
from estimator.engines.pool import rank_token_bytes
from estimator.engines.stored import stored
from estimator.engines.weights import block, tensors
from estimator.models import load_model


def draft_bytes(asked: ServerAsked) -> tuple[int, int]:
    """Bytes of the weights of ``--draft-model`` on a rank, and those that it keeps of a token; 0 without one."""
    given = getattr(asked.question, "draft_model", None)
    if given is None:
        return 0, 0
    model = load_model(given) if isinstance(given, str) else given
    draft = replace(asked, model=model, store=stored(model, None, asked.dtype), said=[])
    layers = decoder_layers(model.described)
    return sum(block(n) for _, n in tensors(draft, range(len(layers))) if n), rank_token_bytes(draft, layers)
