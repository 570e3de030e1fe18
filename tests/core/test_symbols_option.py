"""``--symbols``: which letter is renamed, and what is refused."""

from __future__ import annotations

import json

import pytest

from estimator import api, derive
from estimator.errors import InputError
from estimator.render import to_text


@pytest.mark.parametrize("symbols", ["d=D,L=N", "D=d,N=L"])
def test_the_models_letter_is_renamed_whichever_side_it_stands_on(symbols: str) -> None:
    report = api.peft(api.load_model("symbolic"), method="lora")
    found = json.loads(to_text(report, "json", True, symbols))["results"]
    assert found["trainable_params"] == "4*N*D*r"


@pytest.mark.parametrize(
    ("symbols", "message"),
    [("Q=x", "no letter 'Q' here; there are L, d, r"), ("L=d", "'d' is another letter"), ("d=X,L=X", "same new name")],
)
def test_a_letter_that_is_nowhere_or_would_be_ambiguous_is_refused(symbols: str, message: str) -> None:
    report = api.peft(api.load_model("symbolic"), method="lora")
    with pytest.raises(InputError, match=message):
        derive.renamed(report, symbols)


def test_inputs_of_a_symbolic_report_are_letters() -> None:
    report = api.peft(api.load_model("symbolic"), method="lora", rank="R")
    assert json.loads(to_text(report, "json"))["inputs"]["rank"] == "R"
