"""Small sets of vectors to train encoders on: strokes, digits, speech, sentences and mixtures."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lab.frames import BANDS, log_mel
from lab.mixtures import Mixture
from lab.study import Arm, Scale, StudyError
from lab.text_sets import encoded

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Labelled = tuple[FloatArray, IntArray]

# Training and held-out examples of a class.
_SIZES = {"pendigits": (200, 60), "digits": (100, 25), "fsdd": (150, 40), "banking77": (40, 10), "gaussians": (200, 60)}
_SMOKE = (24, 8)
# Standard deviation of the noise of views, in units of the standardised values.
_NOISE = {"pendigits": 0.25, "digits": 0.5, "fsdd": 0.5, "banking77": 0.5, "gaussians": 0.5}
_FROM = {
    "pendigits": "strokes of digits: `values` of 16 coordinates, `label`; UCI's pen-based recognition of digits",
    "fsdd": "spoken digits: `values` of 8 kHz samples, `label`; the Free Spoken Digit Dataset",
    "cifar10": "CIFAR-10 in the Hugging Face layout: `image`, `label`",
    "banking77": "questions to a bank: `text`, `label`; BANKING77",
}
_SEGMENTS = 8


@dataclass(frozen=True)
class Vectors:
    """Standardised examples x (N, D) with classes y (N,) for training, for tuning (held) and for the test."""

    x: FloatArray
    y: IntArray
    held_x: FloatArray
    held_y: IntArray
    test_x: FloatArray
    test_y: IntArray
    noise: float

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1


@lru_cache(maxsize=8)
def load_vectors(name: str, scale: Scale) -> Vectors:
    """Load a set by its name. At smoke scale it is a few examples.

    Raises:
        StudyError: PAIRSIFT_DATA does not hold the set.
    """
    (x, y), (test_x, test_y) = _READERS[name](name)
    first, held = _SMOKE if scale == "smoke" else _SIZES[name]
    places = _places(y)
    seen, kept = places < first, (places >= first) & (places < first + held)
    if scale == "smoke":
        few = _places(test_y) < 2 * held
        test_x, test_y = test_x[few], test_y[few]
    mean, std = x[seen].mean(axis=0), x[seen].std(axis=0)
    std = np.where(std > 0, std, 1)
    parts = [((each - mean) / std).astype(np.float32) for each in (x[seen], x[kept], test_x)]
    return Vectors(parts[0], y[seen], parts[1], y[kept], parts[2], test_y, _NOISE[name])


def check_data(arms: Iterable[Arm], scale: Scale) -> None:
    """Refuse arms whose set is missing. Sets at smoke scale need no data.

    Raises:
        StudyError: the set is missing. The message describes it and its place.
    """
    for name in dict.fromkeys(arm.setting.get("set", "") for arm in arms):
        if name in _FROM:
            _files(name)


def _files(name: str) -> tuple[Path, Path]:
    """The parquet files of the training and test sets."""
    root = os.environ.get("PAIRSIFT_DATA")
    files = [Path(root or "PAIRSIFT_DATA", name, f"{part}.parquet") for part in ("train", "test")]
    missing = [file for file in files if not file.is_file()]
    if root is None or missing:
        why = "PAIRSIFT_DATA is not set" if root is None else f"there is no {missing[0]}"
        raise StudyError(
            f"{why}: put train.parquet and test.parquet into a folder {name} ({_FROM[name]}), and name the folder "
            "above it by PAIRSIFT_DATA; --scale smoke needs no data"
        )
    return files[0], files[1]


def _strokes(name: str) -> tuple[Labelled, Labelled]:
    first, second = (
        (np.asarray(table["values"].to_pylist(), np.float32), _labels(table))
        for table in map(pq.read_table, _files(name))
    )
    return first, second


def _speech(name: str) -> tuple[Labelled, Labelled]:
    """Energies of mel bands, averaged over eight segments of a word."""
    first, second = (
        (np.stack([_segments(np.asarray(wave)) for wave in table["values"].to_pylist()]), _labels(table))
        for table in map(pq.read_table, _files(name))
    )
    return first, second


def _segments(wave: NDArray[Any]) -> FloatArray:
    frames = log_mel(wave)
    edges = np.linspace(0, len(frames), _SEGMENTS + 1).astype(int)
    means = [frames[a : max(b, a + 1)].mean(axis=0) for a, b in itertools.pairwise(edges)]
    return np.concatenate(means).astype(np.float32).reshape(_SEGMENTS * BANDS)


def _sentences(name: str) -> tuple[Labelled, Labelled]:
    """Features of the packaged MiniLM of the questions that are used."""
    train, test = map(pq.read_table, _files(name))
    train = train.filter(_places(_labels(train)) < sum(_SIZES[name]))
    first, second = ((encoded(table["text"].to_pylist(), 32), _labels(table)) for table in (train, test))
    return first, second


def _digits(name: str) -> tuple[Labelled, Labelled]:
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    values, labels = values.astype(np.float32), labels.astype(np.int64)
    test = _places(labels) >= sum(_SIZES[name])
    return (values[~test], labels[~test]), (values[test], labels[test])


def _gaussians(name: str) -> tuple[Labelled, Labelled]:
    mixture = Mixture(classes=10, dimensions=16, spread=3.0, share=0.2, overlap=0.4)
    first, second = (mixture.draw(count, seed) for count, seed in ((sum(_SIZES[name]), 0), (200, 1)))
    return (first.x, first.y), (second.x, second.y)


def _labels(table: Any) -> IntArray:
    labels: IntArray = table["label"].to_numpy().astype(np.int64)
    return labels


def _places(y: IntArray) -> IntArray:
    """Number of earlier examples of the same class, (N,)."""
    order = np.argsort(y, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(y))[:-1]])
    places = np.empty_like(y)
    places[order] = np.arange(len(y)) - starts[y[order]]
    return places


_READERS: dict[str, Callable[[str], tuple[Labelled, Labelled]]] = {
    "pendigits": _strokes, "digits": _digits, "fsdd": _speech, "banking77": _sentences, "gaussians": _gaussians,
}  # fmt: skip
