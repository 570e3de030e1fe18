"""What ``llmcalc fermi new`` writes: a small chain that runs as it is, with a comment on everything one can say."""

from __future__ import annotations

from pathlib import Path

from estimator.errors import InputError

DEFAULT_FILE = "my-estimate.toml"

TEMPLATE = """\
# A Fermi estimate. Run it:            llmcalc fermi {file}
# Change an assumption:                llmcalc fermi {file} --set price="between 2 and 5 USD/GPU-hour"
# See every step in letters:           llmcalc fermi {file} --derive

title = "What it costs to train a 7B model"
answers = ["usd"]                 # what the chain is for; the first one gets the histogram

# [units]                         # things of your own to count, or multiples of known units
# piano = ""
# fortnight = "14 days"

[quantities]
# A number with its unit. Units: B GB GiB, FLOP TFLOP petaFLOP-day, s hours days, USD, W kWh, kg, kg CO2, tCO2,
# tokens, parameters, words, books, GPUs, users ... combined as in FLOP/s, USD/GPU-hour, kg CO2/kWh.
parameters = "7 billion parameters"
tokens = "between 1 trillion and 3 trillion tokens"    # 5th and 95th percentile, log-normal; or: normal, uniform,
                                                       # triangular between 1e12 and 3e12 tokens, mode 2e12

# A figure of a GPU preset (llmcalc gpus): memory, bandwidth, power, bf16, fp8, bf16-sparse, price, prices.
speed = "gpu:h100-sxm.bf16"

# A formula: numbers, names, + - * / ** and min, max, sqrt, log, exp; "in" names the unit of the result.
flops = "= flops_each * parameters * tokens in FLOP"

# The long form of the same, with everything a quantity can have.
[quantities.flops_each]
label = "Training FLOP a parameter and token"
value = 6
unit = "FLOP/parameter/token"
source = "Kaplan et al. 2020, arXiv 2001.08361"

[quantities.utilisation]
label = "Share of the peak that training reaches"
section = "Cost"
value = 0.4                        # the point that the exact chain uses ...
range = "between 0.3 and 0.5"      # ... and what is sampled
note = "a guess: say where a number comes from, or that it is one"

[quantities.price]
section = "Cost"
value = "gpu:h100-sxm.prices"      # the median, and the range from the lowest to the highest price

[quantities.gpu_hours]
section = "Cost"
formula = "flops / (speed * utilisation)"
unit = "GPU-hours"

[quantities.usd]
section = "Cost"
label = "Rent"
formula = "gpu_hours * price"
unit = "USD"
"""


def write_template(file: str) -> str:
    """Write the template to ``file`` and return its name; InputError where the file exists or cannot be made."""
    path = Path(file)
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(TEMPLATE.format(file=file))
    except FileExistsError:
        raise InputError(f"{file}: exists already; nothing was written") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    return file
