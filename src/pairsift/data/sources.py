"""Where images come from: parquet, folders, arrays, digits, and library data sets, behind one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairsift.data.arrays import open_digits, open_numpy
from pairsift.data.encoded import FolderSource, ParquetSource
from pairsift.data.errors import DataError


class Source(Protocol):
    """Encoded or raw images with labels and paths where known; nothing is decoded until asked.

    Anything with these members can be trained on: `labels` is (N,) int64 or None.
    """

    name: str
    labels: NDArray[np.int64] | None
    class_names: Sequence[str] | None
    paths: Sequence[str] | None

    def __len__(self) -> int: ...

    def image(self, row: int) -> Image.Image:
        """Decode one image; raises whatever PIL raises on corrupt bytes."""

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of one image, from its header."""


def open_source(spec: str, *, label_column: str | None = None) -> Source:
    """Open a source by its name or path.

    ``digits`` (also ``digits:train``, ``digits:test``: 1,297 and 500 images); a parquet file or a folder of parquet
    shards with an image column of ``{bytes, path}``; an image folder, with or without class subfolders; ``.npy`` or
    ``.npz`` of uint8 images; ``hf:NAME[:SPLIT]`` (needs `datasets`); ``torchvision:NAME[:SPLIT]`` (needs torchvision).

    Args:
        spec: name or path.
        label_column: parquet, npz or Hugging Face column of class numbers or names; None takes the usual one where
            there is one; "none" ignores labels.

    Raises:
        DataError: nothing there, not readable, no images, or labels that are missing or of the wrong type.
    """
    kind, _, rest = spec.partition(":")
    if kind == "digits":
        return open_digits(rest, label_column)
    if kind in ("hf", "torchvision") and rest:
        from pairsift.data import libraries

        return libraries.open_hf(rest, label_column) if kind == "hf" else libraries.open_torchvision(rest, label_column)
    path = Path(spec)
    if not path.exists():
        raise DataError(f"no data at {spec!r}: give a file, a folder, 'digits', 'hf:NAME' or 'torchvision:NAME'")
    if path.is_dir():
        shards = sorted(path.glob("*.parquet"))
        return ParquetSource(shards, str(path), label_column) if shards else FolderSource(path, label_column)
    if path.suffix == ".parquet":
        return ParquetSource([path], str(path), label_column)
    if path.suffix in (".npy", ".npz"):
        return open_numpy(path, label_column)
    raise DataError(f"{spec!r} is not a kind of data known here: use .parquet, .npy, .npz or a folder of images")
