"""Comparisons: an answer beside things of the same dimension that people have a feeling for, each with its source."""

from __future__ import annotations

import math

from estimator.fermi.units import Dim, measure
from estimator.records import dataclass


@dataclass(frozen=True, slots=True)
class Thing:
    """Something to compare with. ``what`` completes "3 times ..."; ``amount`` of ``unit``."""

    what: str
    amount: float
    unit: str
    source: str


THINGS: tuple[Thing, ...] = (
    Thing(
        "the books in the Library of Congress's catalogue",
        23_592_066,
        "books",
        "Wikipedia, Library of Congress (2013 figures)",
    ),
    Thing("all books in the world", 129_864_880, "books", "Google Books blog, 2010"),
    Thing("the text GPT-3 was trained on", 300e9, "tokens", "Brown et al. 2020, arXiv 2005.14165, Table 2.2"),
    Thing("the text Llama 3.1 405B was trained on", 15.6e12, "tokens", "Grattafiori et al. 2024, arXiv 2407.21783"),
    Thing("GPT-3's parameters", 174.6e9, "parameters", "Brown et al. 2020, arXiv 2005.14165, Table D.1"),
    Thing("Llama 3.1 405B's parameters", 405_853_388_800, "parameters", "counted from its config.json"),
    Thing("GPT-3's training", 3.14e23, "FLOP", "Brown et al. 2020, arXiv 2005.14165, Table D.1"),
    Thing("Llama 3.1 405B's training", 3.8e25, "FLOP", "Grattafiori et al. 2024, arXiv 2407.21783"),
    Thing("GPT-3's weights in 16 bits", 349.2e9, "B", "Brown et al. 2020: 174.6e9 parameters"),
    Thing("Sci-Hub and LibGen together", 110e12, "B", "course text, question 5(d): as of 2020"),
    Thing("the first iPhone's development", 150e6, "USD", "course text, question 5(h)"),
    Thing("the Airbus A380's development", 18e9, "USD", "Bowen 2010, Table 4.3, as quoted in the course text"),
    Thing("the Manhattan Project", 24e9, "USD", "course text, question 5(h), 2021 dollars"),
    Thing("Microsoft's capital expenditure of 2024", 65e9, "USD", "course text, question 5(h)"),
    Thing("the Apollo programme", 178e9, "USD", "course text, question 5(h), 2022 dollars"),
    Thing("the rent of DeepSeek-V3's training", 5.576e6, "USD", "DeepSeek-AI 2024, arXiv 2412.19437, Table 1"),
    Thing("a US home's electricity in a year", 10_715, "kWh", "US EIA, FAQ 97, 2020"),
    Thing("GPT-3's training energy", 1287, "MWh", "Patterson et al. 2021, arXiv 2104.10350, Table 4"),
    Thing("a US car's tailpipe in a year", 4.6, "tCO2", "US EPA, EPA-420-F-23-014"),
    Thing("GPT-3's training emissions", 552.1, "tCO2", "Patterson et al. 2021, arXiv 2104.10350, Table 4"),
    Thing("Llama 3.1 405B's GPU-hours", 30.84e6, "GPU-hours", "Llama 3.1 model card"),
    Thing("DeepSeek-V3's GPU-hours", 2.788e6, "GPU-hours", "DeepSeek-AI 2024, arXiv 2412.19437, Table 1"),
    Thing("a 10 GW data centre", 10e9, "W", "course text, question 5(h)"),
)


FEWEST, MOST = 0.01, 1e5  # beyond these, a comparison says nothing
SAME = 0.01  # and an answer is not compared with itself


def nearest(amount: float, dim: Dim, count: int = 2) -> list[tuple[float, Thing]]:
    """The ``count`` things nearest in size (in base units) to ``amount``, with how many of each it is."""
    if amount <= 0 or not dim:
        return []
    found = []
    for thing in THINGS:
        unit = measure(thing.unit, "comparisons")
        if unit.dim == dim:
            ratio = amount / (thing.amount * float(unit.factor))
            if FEWEST <= ratio <= MOST and abs(ratio - 1) > SAME:
                found.append((ratio, thing))
    return sorted(found, key=lambda f: abs(math.log(f[0])))[:count]
