"""Real sequences of frames: spoken digits as energies of mel bands, and pen strokes as positions of the pen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

RATE, WINDOW, HOP, BANDS = 8000, 200, 80, 20  # 25 ms every 10 ms
WIDTH = 64  # of features
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Frames:
    """Frames of S sequences, one sequence after the other.

    Attributes:
        values: (N, D), standardised by the training frames.
        sequences: (N,) number of the sequence of each frame.
        labels: classes of the sequences, (S,) each, by name ("digit", "speaker").
    """

    values: FloatArray
    sequences: NDArray[np.int64]
    labels: dict[str, NDArray[np.int64]]

    def means(self, features: FloatArray) -> FloatArray:
        """Mean of (N, D) features over every sequence, (S, D)."""
        counts = np.bincount(self.sequences)
        sums = np.zeros((len(counts), features.shape[1]))
        np.add.at(sums, self.sequences, features)
        means: FloatArray = (sums / counts[:, None]).astype(np.float32)
        return means

    def part(self, chosen: NDArray[np.bool_]) -> Frames:
        """The sequences of a (S,) mask."""
        rows = chosen[self.sequences]
        numbers = (np.cumsum(chosen) - 1)[self.sequences[rows]]
        return Frames(self.values[rows], numbers, {name: each[chosen] for name, each in self.labels.items()})


def load(data: Path, name: str, per_class: int) -> tuple[Frames, Frames]:
    """Training and test frames of `fsdd` or `pendigits`, with `per_class` training sequences of every class."""
    read = _spoken if name == "fsdd" else _pen
    train, test = (
        read(data / name / f"{split}.parquet", most) for split, most in (("train", per_class), ("test", None))
    )
    mean, std = train.values.mean(axis=0), train.values.std(axis=0)
    first, second = (Frames((each.values - mean) / std, each.sequences, each.labels) for each in (train, test))
    return first, second


def log_mel(wave: NDArray[Any]) -> FloatArray:
    """(T,) samples -> (frames, 20) logarithms of the energies of mel bands."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), 256)) ** 2
    energies: FloatArray = np.log(power @ _mel_filters() + 1e-6).astype(np.float32)
    return energies


def _mel_filters() -> NDArray[np.float64]:
    """(129, 20) triangles, evenly spaced on the mel scale up to half the sampling rate."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, 129)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def _spoken(file: Path, per_class: int | None) -> Frames:
    table = pq.read_table(file)
    digits, speakers = table["label"].to_numpy(), np.unique(table["subject"].to_numpy(), return_inverse=True)[1]
    # Every speaker has the same number of sequences of each digit.
    rows = _first(digits * (speakers.max() + 1) + speakers, per_class and per_class // (int(speakers.max()) + 1))
    waves = table["values"].take(rows).to_pylist()
    series = [log_mel(np.asarray(wave)) for wave in waves]
    return _joined(series, {"digit": digits[rows], "speaker": speakers[rows]})


def _pen(file: Path, per_class: int | None) -> Frames:
    table = pq.read_table(file)
    digits = table["label"].to_numpy()
    rows = _first(digits, per_class)
    series = [np.asarray(values, np.float32).reshape(8, 2) for values in table["values"].take(rows).to_pylist()]
    return _joined(series, {"digit": digits[rows]})


def _first(classes: NDArray[Any], count: int | None) -> NDArray[np.int64]:
    rows = [np.flatnonzero(classes == each)[:count] for each in np.unique(classes)]
    return np.sort(np.concatenate(rows)).astype(np.int64)


def _joined(series: list[FloatArray], labels: dict[str, NDArray[Any]]) -> Frames:
    numbers = np.repeat(np.arange(len(series)), [len(each) for each in series]).astype(np.int64)
    return Frames(np.concatenate(series), numbers, {name: each.astype(np.int64) for name, each in labels.items()})


def mlp(width: int, features: int = WIDTH, hidden: int = 256) -> nn.Module:
    """An MLP of three layers, (B, width) -> (B, features)."""
    layers: list[nn.Module] = []
    for n_in in (width, hidden):
        layers += [nn.Linear(n_in, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, features))


def noisy(values: Tensor, noise: float) -> Tensor:
    """Frames with normal noise and a fifth of their values set to 0. Noise 0 changes nothing."""
    if not noise:
        return values
    return (values + noise * torch.randn_like(values)) * (torch.rand_like(values) > 0.2)
