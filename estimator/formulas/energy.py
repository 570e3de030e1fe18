"""Energy and carbon of computing."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import KG, KWH

WATTS_PER_KILOWATT = 1000


@formula(
    unit=KWH,
    cite="Patterson et al. 2021, Carbon Emissions and Large Neural Network Training, arXiv 2104.10350, section 2",
)
def energy_kwh(H: Any, watts: Any, pue: Any) -> Any:
    """H accelerator-hours at ``watts`` each, times the data centre's overhead."""
    return H * watts * pue / WATTS_PER_KILOWATT


@formula(unit=KG, cite="Patterson et al. 2021, arXiv 2104.10350, section 2")
def co2_kg(kwh: Any, intensity: Any) -> Any:
    """Energy times the grid's kg of CO2 equivalents a kWh."""
    return kwh * intensity


@formula(
    unit=KG,
    cite="Luccioni et al. 2022, BLOOM, arXiv 2211.02001, section 4.1",
    assumes=("the hardware is used for all of its life",),
)
def embodied_kg(H: Any, kg: Any, life: Any) -> Any:
    """H accelerator-hours' share of the ``kg`` of making one, spread over ``life`` hours."""
    return H * kg / life
