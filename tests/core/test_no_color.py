"""Escape sequences are for terminals that want them: none with NO_COLOR, none into a pipe."""

from __future__ import annotations

import io

import pytest

from estimator import api
from estimator.render import to_text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("no_color", "stream", "styled"), [(None, Terminal, True), ("1", Terminal, False), (None, io.StringIO, False)]
)
def test_escape_sequences(monkeypatch, no_color, stream, styled):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    text = to_text(api.kvcache(api.load_model("gpt2")), stream=stream())
    assert ("\x1b[" in text) == styled
