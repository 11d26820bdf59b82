"""Images that come as arrays: in memory, .npy and .npz files, the digits of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairsift._base.checks import first_line
from pairsift.data.columns import ARRAY_LABELS, IMAGE_ARRAYS, NO_LABELS, array_called, label_column
from pairsift.data.errors import DataError
from pairsift.data.labels import class_numbers
from pairsift.data.numpy_files import NpzFile


class ArraySource:
    """uint8 images already decoded: (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W).

    Raises:
        DataError: another dtype or shape, or labels of another length.
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: Sequence[Any] | NDArray[Any] | None = None,
        name: str = "array",
        where: str = "in memory",
        class_names: Sequence[str] | None = None,
    ) -> None:
        if images.dtype != np.uint8:
            raise DataError(
                f"{name}: images must be uint8 (0 to 255), got {images.dtype}; scale and convert them first"
            )
        shape = images.shape
        if images.ndim == 3:
            images = images[:, None]
        elif images.ndim == 4 and shape[3] in (1, 3):
            images = images.transpose(0, 3, 1, 2)
        elif not (images.ndim == 4 and shape[1] in (1, 3)):
            raise DataError(f"{name}: images must be (N, H, W), (N, H, W, 3) or (N, 3, H, W), got shape {shape}")
        if images.shape[1] == 1:
            images = np.repeat(images, 3, axis=1)
            where = "in memory"
        if labels is not None and len(labels) != len(images):
            raise DataError(f"{name}: {len(images)} images but {len(labels)} labels")
        self.images: NDArray[np.uint8] = images
        self.name, self.where = name, where
        self.labels: NDArray[np.int64] | None = None
        self.class_names = class_names
        if labels is not None:
            self.labels, names = class_numbers(np.asarray(labels), name)
            self.class_names = class_names or names
        self.paths: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, row: int) -> Image.Image:
        """One image, RGB."""
        return Image.fromarray(np.ascontiguousarray(self.images[row].transpose(1, 2, 0)))

    def size(self, row: int) -> tuple[int, int]:
        """Height and width, the same of every image."""
        return self.images.shape[2], self.images.shape[3]


def open_numpy(path: Path, labels: str | None) -> ArraySource:
    """Images of a .npy (memory-mapped) or .npz file; `labels` names the array of classes."""
    name = str(path)
    try:
        if path.suffix == ".npy":
            if labels not in (None, NO_LABELS):
                raise DataError(f"{name} is a bare array without labels: put images and labels into one .npz")
            return ArraySource(np.load(path, mmap_mode="r"), name=name, where="memory-mapped")
        arrays = NpzFile(path)
        images = array_called(name, IMAGE_ARRAYS, arrays.names)
        classes = label_column(name, arrays.names, labels, ARRAY_LABELS)
        return ArraySource(arrays.read(images), None if classes is None else arrays.read(classes), name)
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{name} cannot be read as a numpy file: {first_line(error)}") from error


def open_digits(split: str, labels: str | None) -> ArraySource:
    """The 1,797 digits of scikit-learn, or one of two fixed parts of them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if split not in ("", "train", "test"):
        raise DataError(f"digits has the splits 'train' and 'test', got {split!r}")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    classes = digits.target
    if split:
        train, test = train_test_split(np.arange(len(images)), test_size=500, random_state=0, stratify=classes)
        rows = np.sort(train if split == "train" else test)
        images, classes = images[rows], classes[rows]
    return ArraySource(images, None if labels == NO_LABELS else classes, f"digits:{split}" if split else "digits")
