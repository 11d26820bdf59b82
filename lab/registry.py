"""Finds studies by name, and studies in files of users."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

from lab import studies
from lab.study import Study, StudyError


def names() -> list[str]:
    """Names of all studies of the lab."""
    return sorted(each.name.replace("_", "-") for each in pkgutil.iter_modules(studies.__path__))


def find_study(spec: str) -> Study:
    """Find a study of the lab by its name, or the only `Study` of a Python file.

    Raises:
        StudyError: an unknown name (with the nearest names), a missing file, or a file without exactly one study.
    """
    if spec.endswith(".py"):
        return _of_file(Path(spec))
    known = names()
    if spec not in known:
        near = difflib.get_close_matches(spec, known, n=3, cutoff=0.4)
        meant = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(known)}"
        raise StudyError(f"there is no study {spec!r}: {meant} A path that ends in .py runs a study of your own.")
    module = importlib.import_module(f"{studies.__name__}.{spec.replace('-', '_')}")
    study: Study = module.STUDY
    return study


def _of_file(file: Path) -> Study:
    if not file.is_file():
        raise StudyError(f"there is no file {file}")
    name = f"_study_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up
    spec.loader.exec_module(module)
    found = [each for each in vars(module).values() if isinstance(each, Study)]
    if len(found) != 1:
        raise StudyError(f"{file} has {len(found)} objects of lab.Study, and one is needed: STUDY = Study(...)")
    return found[0]
