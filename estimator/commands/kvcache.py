"""``llmcalc kvcache``."""

from __future__ import annotations

from estimator.command import Shown, command
from estimator.questions.kvcache import KVCache
from estimator.report import Report


def answer(q: KVCache, shown: Shown) -> Report | None:
    """The report; with ``--plot`` its figure too, or the figure alone where ``--output`` names a picture."""
    from estimator.estimates import kvcache as estimates

    report = estimates.answer(q)
    if not q.plot:
        return report
    from estimator.render import write_file
    from estimator.render.plots import draw, picture

    figure = estimates.growth(report, q)
    if shown.output is not None and picture(shown.output):
        write_file(shown.output, draw(figure, shown.output))
        return None
    return report._replace(body=(*report.body, estimates.drawn(figure)))


app = command(KVCache, answer)
