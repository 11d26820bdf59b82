"""Sources from data set libraries, imported only when named: Hugging Face `datasets` and torchvision."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairsift._base.checks import first_line
from pairsift._base.extras import needs
from pairsift.data.columns import IMAGE_LABELS, NO_LABELS, image_column, label_column
from pairsift.data.errors import DataError
from pairsift.data.labels import class_numbers


class LibrarySource:
    """Rows of a library's data set, whose `get(row)` gives a PIL image."""

    def __init__(
        self, name: str, get: Any, length: int, labels: NDArray[Any] | None, class_names: Sequence[str] | None
    ) -> None:
        self.name, self._get, self._length = name, get, length
        self.labels: NDArray[np.int64] | None = None
        self.class_names = class_names
        if labels is not None:
            self.labels, names = class_numbers(labels, name)
            self.class_names = class_names or names
        self.paths: Sequence[str] | None = None

    def __len__(self) -> int:
        return self._length

    def image(self, row: int) -> Image.Image:
        """One image, decoded by the library."""
        image: Image.Image = self._get(row)
        return image

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of one image, which is decoded for it."""
        image = self.image(row)
        return image.height, image.width


def open_hf(name: str, labels: str | None) -> LibrarySource:
    """A data set of the Hugging Face hub or disk cache, `NAME` or `NAME:SPLIT` (default train)."""
    with needs("vision", f"hf:{name}", DataError):
        import datasets
    name, _, split = name.partition(":")
    try:
        data = datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        raise DataError(f"hf:{name} cannot be loaded ({type(error).__name__}: {first_line(error)})") from error
    column = image_column(f"hf:{name}", data.column_names)
    wanted = label_column(f"hf:{name}", data.column_names, labels, IMAGE_LABELS)
    data = data.cast_column(column, datasets.Image(decode=False))
    classes, class_names = None, None
    if wanted is not None:
        classes = np.asarray(data[wanted][:])
        class_names = getattr(data.features[wanted], "names", None)

    def get(row: int) -> Image.Image:
        item = data[row][column]
        image = Image.open(io.BytesIO(item["bytes"]) if item["bytes"] is not None else item["path"])
        image.load()
        return image

    return LibrarySource(f"hf:{name}", get, len(data), classes, class_names)


def open_torchvision(name: str, labels: str | None, root: str = "data") -> LibrarySource:
    """A torchvision data set by class name, `CIFAR10` or `CIFAR10:SPLIT` (default train), from the folder `data`."""
    try:
        import torchvision
    except Exception as error:  # a wheel built for another torch fails with RuntimeError, not ImportError
        raise DataError(
            f"torchvision:{name} needs a torchvision that matches the installed torch: pip install 'pairsift[vision]' "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    name, _, split = name.partition(":")
    kind = getattr(torchvision.datasets, name, None)
    if kind is None:
        raise DataError(f"torchvision has no data set {name!r}")
    split = split or "train"
    options = {"train": split == "train"} if name.startswith("CIFAR") or name.endswith("MNIST") else {"split": split}
    try:
        data = kind(root=root, download=True, **options)
    except Exception as error:
        raise DataError(f"torchvision:{name} cannot be loaded ({type(error).__name__}: {first_line(error)})") from error
    classes = getattr(data, "targets", getattr(data, "labels", None))
    keep = classes is not None and labels != NO_LABELS
    return LibrarySource(
        f"torchvision:{name}:{split}",
        lambda row: data[row][0],
        len(data),
        np.asarray(classes) if keep else None,
        getattr(data, "classes", None) if keep else None,
    )
