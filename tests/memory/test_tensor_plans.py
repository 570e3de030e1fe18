"""What a class's tensor-parallel plan leaves whole (estimator/families/plans.py), as transformers 5.17 writes it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from estimator.config import Config
from estimator.families.base import Attention, MoE
from estimator.families.common_parts import COLUMN, REJOINED, ROW
from estimator.families.plans import ATTENTION, EXPERTS, SHARED, WHOLE, left_whole
from estimator.models import Model, load_model
from estimator.parallel.divided import one_rank

PLANS = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "tp_plans.json.gz").read_bytes()))["plans"]
# what a config.json of theirs says, where the class has no default or leaves shared experts out
SAID = {"deepseek_v2": {"num_experts_per_tok": 6}, "cohere2_moe": {"num_shared_experts": 1},
        "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1}}  # fmt: skip


def built(kind):
    """The class at its defaults."""
    return Model(kind, "file", Config({"model_type": kind, **SAID.get(kind, {})})).architecture


def routed(arch):
    return [x.mlp for x in arch.layers if isinstance(x.mlp, MoE)]


# a wrapper's own plan is not its text's; LongCat-Flash, whose identity experts have a plan of their own, is refused
KINDS = [k for k in sorted(PLANS) if f"{k}_text" not in PLANS and k != "longcat_flash" and "experts" in str(PLANS[k])]


@pytest.mark.parametrize("kind", [*KINDS, "cohere2_moe", "exaone_moe", "minicpm3", "qwen2_moe"])
def test_plan(kind):
    """What has no line in the plan is listed, and nothing else is."""
    arch, plan = built(kind), PLANS[kind]
    moes = routed(arch)
    expected = {
        ATTENTION: not any("self_attn" in k for k in plan),
        EXPERTS: bool(moes) and not any(".experts" in k for k in plan),
        SHARED: any(x.shared is not None for x in moes) and not any("shared_expert" in k for k in plan),
    }
    assert {x for x, whole in expected.items() if whole} == set(left_whole(kind))


def test_a_wrapper_has_its_texts_plan():
    assert all(WHOLE[k] == WHOLE[f"{k}_text"] for k in WHOLE if f"{k}_text" in WHOLE)


def test_shared_experts_like_an_mlp():
    """GLM-4.5: routed and shared experts both; Qwen 1.5's plan names neither."""
    both = one_rank(load_model("glm-4.5-air").architecture, 2, False)
    whole = load_model("qwen1.5-moe-a2.7b").architecture
    left = one_rank(whole, 2, False)
    moe = routed(both)[0]
    assert [p.across for p in moe.shared.linears] == [COLUMN, COLUMN, ROW]
    assert (moe.width, moe.shared.width) == (704, 704)
    assert [x.mlp for x in left.layers] == [x.mlp for x in whole.layers]
    assert left.layers[0].mixer.heads * 2 == whole.layers[0].mixer.heads


def test_latent_attention():
    """DeepSeek-V2 is cut by heads, its narrow keys are put together; V3's attention is whole."""
    cut = one_rank(load_model("deepseek-v2-lite").architecture, 2, False).layers[0].mixer
    assert isinstance(cut, Attention)
    assert [p.across for p in (*cut.projections, cut.out)] == [COLUMN, REJOINED, COLUMN, ROW]
    assert (cut.heads, cut.projections[0].d_out, cut.projections[2].d_out) == (8, 8 * 192, 8 * 256)
    whole = load_model("deepseek-v3").architecture
    assert one_rank(whole, 2, False).layers[0].mixer == whole.layers[0].mixer
