"""What a count has in it is said: active parameters, adapted experts, tokens a parameter by Chinchilla's refit."""

from __future__ import annotations

import json

import pytest

from estimator import api

# published: "3.6B active" and "5.1B active" (OpenAI's gpt-oss model card), without the input table
WITHOUT = {"gpt-oss-20b": "3.61 B", "gpt-oss-120b": "5.13 B"}


@pytest.mark.parametrize(("model", "without"), WITHOUT.items())
def test_active_parameters_say_that_the_input_table_is_in_them(llmcalc, model, without):
    said = f"with the input table, which some published counts leave out: {without} without"
    for line in (f"models {model}", f"memory {model} --detail"):
        assert said in " ".join(llmcalc(line).out.split()) or said in llmcalc(f"{line} --format markdown").out, line
    node = next(x for x in json.loads(llmcalc(f"models {model} --format json").out)["tree"]["children"]
                if x["key"] == "active_params")  # fmt: skip
    assert node["note"] == said


def test_a_dense_model_has_no_such_note(llmcalc):
    assert "published counts" not in llmcalc("memory llama-3-8b --detail").out


MOE = {
    "model_type": "glm4_moe", "architectures": ["Glm4MoeForCausalLM"], "hidden_size": 256, "intermediate_size": 512,
    "moe_intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "num_hidden_layers": 3, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "vocab_size": 1000, "tie_word_embeddings": False,
}  # fmt: skip


def test_adapted_experts_are_in_the_title(tmp_path):
    """Of GLM-4.5-Air they are 98% of what is trained, and the title named the attention alone."""
    (tmp_path / "config.json").write_text(json.dumps(MOE), encoding="utf-8")
    title = api.peft(str(tmp_path), method="lora", targets="all-linear").title
    assert title.endswith(": q_proj, k_proj, v_proj, o_proj, gate, experts.gate_up_proj, experts.down_proj")
    assert api.peft("mixtral-8x7b", targets="q_proj,v_proj").title == "LoRA on mixtral-8x7b: q_proj, v_proj"
    assert api.peft("llama-3-8b", method="vera").title == "VeRA on llama-3-8b: q_proj, v_proj"


@pytest.mark.parametrize("question", [{"compute": "5.76e23"}, {"params": "70B"}, {"tokens": "1.4T"}])
def test_chinchillas_refit_is_in_the_verdict(question):
    made, refit = api.chinchilla(**question), api.chinchilla(law="epoch", **question)
    here, there = (x.value("tokens_per_param") for x in (made, refit))
    assert made.verdict == (
        f"{here:.4g} tokens a parameter; the refit of the same runs (Besiroglu et al. 2024) gives {there:.4g}: "
        "--law epoch."
    )
    assert refit.verdict == ""


def test_chinchillas_own_budget(llmcalc):
    said = " ".join(llmcalc("chinchilla --compute 5.76e23").out.split())
    assert "92.65 tokens a parameter; the refit" in said
    assert "(Besiroglu et al. 2024) gives 18.34: --law epoch." in said
