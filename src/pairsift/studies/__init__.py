"""Experiments on the public API only.

A study of one's own is a `Study` in a file: `pairsift study FILE.py` runs it, see examples/own_study.py.
"""

from pairsift.studies.study import Arm, Study, StudyError

__all__ = ["Arm", "Study", "StudyError"]
