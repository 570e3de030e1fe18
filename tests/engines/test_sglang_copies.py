"""SGLang's DP attention: copies of the attention on the GPUs of one tensor group (srt/server_args.py of 0.5.9)."""

from __future__ import annotations

import pytest

LINE = "memory deepseek-v3 --engine sglang --gpu h200 --format json --tp 8"


def test_copies_of_the_attention_share_the_gpus_of_the_tensor_group(llmcalc):
    copies = llmcalc(f"{LINE} --dp 8 --enable-dp-attention").json
    assert "h200, 8 x data" in copies["title"]
    served = llmcalc("infer deepseek-v3 --engine sglang --gpu h200 --format json --tp 8 --dp 8 --enable-dp-attention")
    assert served.json["inputs"]["gpus"] == 8
    # chunk x 1.5 + graph x 2 + a sixteenth of 1,024 MiB a rank, and 4.5 a sequence of the graph and copy
    rest = 512 + 8192 * 3 // 2 + 512 * 2 + 8 * 128 + 512 * 8 * 9 // 2
    assert f"--mem-fraction-static not given: {round(1 - rest / 143771, 3):g}" in copies["assumptions"]


def test_what_is_no_attention_is_cut_over_all(llmcalc):
    """Experts, MLPs and the head are as under tensor parallelism; the attention and the table are whole."""
    whole, copies, dealt = (
        llmcalc(f"{LINE} {more}").results["weights_bytes"]
        for more in ("", "--dp 8 --enable-dp-attention", "--ep 8")
    )
    config = {"d": 7168, "V": 129280}
    table = config["d"] * config["V"] * 2 * 7 // 8
    assert dealt == whole
    assert copies - whole > table
    alone = llmcalc(f"{LINE.replace('--tp 8', '--tp 1')} --dp 8 --ep 8").results["weights_bytes"]
    assert alone - copies > table + 3 * 3 * config["d"] * 18432 * 7 // 8  # the head, the three dense MLPs


def test_the_largest_graph_is_the_users(llmcalc):
    line = "memory llama-3-8b --engine sglang --gpu l40s --format json"
    few, many = (llmcalc(f"{line} --cuda-graph-max-bs {n}") for n in (32, 512))
    assert few.results == llmcalc(line).results
    assert few.results["pool_bytes"] > many.results["pool_bytes"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--dp 3 --dp-attention", "--dp-attention: --tensor-parallel 8 is not a multiple of --data-parallel 3"),
        ("--dp-attention", "changes nothing alone: add --data-parallel"),
    ],
)
def test_copies_that_cannot_be(llmcalc, options, said):
    ran = llmcalc(f"{LINE} {options}")
    assert (ran.code, said in ran.err) == (2, True)
