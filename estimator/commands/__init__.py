"""A folder a command: ``cli.py`` reads the line, ``question.py`` is what is asked, ``report.py`` answers it.

The other files of a folder are parts of its answer (its plan, tables, advice). What several commands share
stands outside: the options in :mod:`estimator.questions`, the verdict in :mod:`estimator.fit`, the formats
in :mod:`estimator.render`.
"""
