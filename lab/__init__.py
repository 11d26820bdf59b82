"""Experiments on the public API: studies, benchmarks, their results and the pages made of them.

Run a study with ``python -m lab NAME`` in a checkout. A study of your own is a `Study` in a Python file:
``python -m lab FILE.py`` runs it, see examples/own_study.py.
"""

from lab.study import Arm, Study, StudyError

__all__ = ["Arm", "Study", "StudyError"]
