"""Entry point: ``llmcalc`` and ``python -m estimator``. ``--version`` is answered before anything is imported."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from estimator._version import __version__

        try:
            sys.stdout.write(f"llmcalc {__version__}\n")
            sys.stdout.flush()
        except (AttributeError, OSError):  # closed, or a full disk
            os._exit(2)
        return 0
    import gc

    gc.set_threshold(100_000)  # a command allocates little and ends soon: collecting while it imports is wasted
    if any(word.startswith("--derive") or "symbolic" in word for word in sys.argv[1:]):
        from estimator.spared import spare

        spare()
    from estimator.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
