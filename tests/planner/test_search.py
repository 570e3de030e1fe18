"""The search of ``plan train`` leaves nothing out: bytes, least seconds and rows are those of every layout asked."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from estimator.commands.plan import pretrain
from estimator.commands.plan.pretrain import Fitting, Search
from estimator.commands.plan.question import PreTrain
from estimator.commands.plan.search import pareto, run_limits, watched, within
from estimator.questions import ask

CASES = [
    ("llama-3-8b", {"gpus": "8,16", "gpu": "a100-80gb", "tokens": "10B", "global_batch": "128k"}),
    ("llama-3-70b", {"gpus": "48", "gpu": "h200", "global_batch": "384k", "days": 3000, "usd": 6e7}),
    ("gpt2", {"gpus": "1,2", "gpu": "rtx-4090,l4", "seq_len": "1k", "global_batch": "8k", "tokens": "1B"}),
    ("mixtral-8x7b", {"gpus": "16", "gpu": "h100-sxm", "global_batch": "64k", "usd": 2e7}),
    ("qwen3-30b-a3b", {"gpus": "8", "gpu": "h200", "global_batch": "64k"}),
    ("llama-3.1-8b", {"gpus": "16", "gpu": "h200", "seq_len": "32k", "global_batch": "128k"}),
]


@pytest.mark.parametrize(("model", "options"), CASES, ids=[c[0] for c in CASES])
def test_nothing_is_left_out(monkeypatch, model, options):
    monkeypatch.setattr(pretrain, "TENSOR", (1, 4))
    monkeypatch.setattr(pretrain, "MICRO", (1, 4))
    q = ask(PreTrain, model, options)
    found, every = Search(q), Search(q)
    fitting = {x.place: x for x in found.fitting}
    place, rows = -1, []
    for shape in every.shapes():
        for stage in (1, 2, 3) if shape.gpus > 1 else (0,):
            for gpu in every.cards:
                place += 1
                row = every.row(Fitting(place, shape, stage, gpu, 0.0))  # as ``train`` answers it
                assert (row is not None) == (place in fitting), (gpu, shape, stage)
                if row is not None:
                    least = fitting[place].seconds
                    assert least <= row.step_seconds
                    if shape.gpus > 1:
                        assert least == pytest.approx(row.step_seconds, rel=1e-8)
                    rows.append(row)
    assert found.tried == place + 1
    limits = run_limits(q.days, q.usd)
    want, said = within(rows, limits, "")
    got, also = within(found.rows(7), limits, "")
    assert [r.command for r in pareto(got)[:7]] == [r.command for r in pareto(want)[:7]]
    assert pareto(got)[:7] == pareto(want)[:7]
    assert said == also


@pytest.mark.thorough
def test_a_hundred_thousand_layouts_take_seconds():
    """No more than a few of them are asked of ``train``: the rest is put together from pieces."""
    q = ask(PreTrain, "llama-3-70b", {"gpus": "256..8192", "gpu": "h100-sxm,h200,b200,a100-80gb", "tokens": "15T"})
    found = Search(q)
    fitting = found.fitting
    start = time.process_time()
    assert Search(q).fitting == fitting
    spent = time.process_time() - start
    assert found.tried >= 100_000
    assert spent < 10 * found.tried / 100_000, f"{spent:.1f} s for {found.tried:,} layouts"
    found.rows(10)
    assert len(found.answers) < 100


def test_ctrl_c_keeps_what_was_found():
    seen = []

    def look(n):
        if n == 3:
            raise KeyboardInterrupt
        seen.append(n)

    assert watched(range(9), "planning", look) == "stopped by Ctrl-C after 3 of 9: the rows are the best of those"
    assert seen == [0, 1, 2]
    assert watched([1], "planning", seen.append) == ""


def test_ctrl_c_while_the_cheapest_is_asked_for_is_said(monkeypatch):
    def pressed(self, rest, top):
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "cheapest", pressed)
    found = Search(ask(PreTrain, "llama-3-8b", {"gpus": "64", "gpu": "h100-sxm", "tokens": "1T"}))
    assert found.rows(10)  # those that were asked for as the fastest
    assert found.stopped == "stopped by Ctrl-C: a cheaper row may be missing"


def drained(terminal):
    """Reads what a terminal still shows, so that nobody waits to write to it."""
    with contextlib.suppress(OSError):  # the other side is gone
        while os.read(terminal, 4096):
            pass
    os.close(terminal)


def test_a_bar_on_a_terminal_and_ctrl_c():
    """On a terminal a bar is drawn on standard error; interrupted, the search prints its rows and ends with 0."""
    ours, theirs = pty.openpty()
    counts = ",".join(str(n) for n in range(512, 8193, 256))
    line = f"plan train llama-3-70b --tokens 15T --gpu all --gpus {counts} --format json"
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    env.pop("NO_COLOR", None)
    # a shell that runs the tests in the background has SIGINT ignored, and children inherit that
    ran = subprocess.Popen([sys.executable, "-m", "estimator", *line.split()], stdout=subprocess.PIPE, stderr=theirs,
                           env=env, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while b"planning" not in shown and select.select([ours], [], [], 60)[0]:
            shown += os.read(ours, 4096)
        assert b"planning" in shown
        ran.send_signal(signal.SIGINT)
        threading.Thread(target=drained, args=(ours,), daemon=True).start()
        out, _ = ran.communicate(timeout=60)
    finally:
        ran.kill()
    assert ran.returncode == 0
    found = json.loads(out)
    said = ("stopped by Ctrl-C after ", "stopped by Ctrl-C: a cheaper row may be missing")
    assert any(x.startswith(said) for x in found["assumptions"])
