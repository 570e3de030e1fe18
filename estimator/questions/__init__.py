"""Questions: one frozen dataclass a command, read once, passed whole.

A field is an option: its default, its help and its spelling stand beside it (:func:`option`), the command line is built
from the fields (:mod:`estimator.command`), and :func:`ask` is the one way to make a question, from the command
line and from Python alike: names are read without regard to case, with ``-`` or ``_``, and by people's own words
(:mod:`estimator.names`).
"""

from __future__ import annotations

from estimator.questions.base import Option, Question, again, ask, option, options_of

__all__ = ["Option", "Question", "again", "ask", "option", "options_of"]
