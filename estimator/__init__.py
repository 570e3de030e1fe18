"""llmcalc: how much memory, how many FLOPs, how much time and money a language model takes, with derivations.

The Python API is :mod:`estimator.api`; ``from estimator import api`` is cheap, its names are imported on first use.
Every estimate is a plain function that returns a :class:`~estimator.report.Report`; the command line only parses
options, calls it and renders.
"""

from estimator._version import __version__

__all__ = ["__version__"]
