"""What every evaluation refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift._base.checks import class_labels, real_array


def check_split(
    train_x: NDArray[Any], train_y: NDArray[Any], test_x: NDArray[Any], test_y: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32], NDArray[Any]]:
    """Features as contiguous float32 (N, D) with labels (N,).

    Raises:
        ValueError: features that are no real numbers, empty or misshapen, labels of another length or type, non-finite
            values (the row is named), or a training split of one class.
    """
    out: list[NDArray[Any]] = []
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        x, y = real_array(x, f"{name} features"), class_labels(y, f"{name} labels")
        with np.errstate(over="ignore"):  # told below
            x = np.ascontiguousarray(x, dtype=np.float32) if x.ndim else x
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"{name} features must be a non-empty (N, D) matrix, got shape {x.shape}")
        if y.shape != (len(x),):
            raise ValueError(f"{name} split has {len(x)} features but labels of shape {y.shape}")
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise ValueError(f"{name} features row {bad[0]} is not finite in float32 ({len(bad)} of {len(x)} rows)")
        out += [x, y]
    if out[0].shape[1] != out[2].shape[1]:
        raise ValueError(f"train features have {out[0].shape[1]} dimensions, test features {out[2].shape[1]}")
    if len(np.unique(out[1])) < 2:
        raise ValueError(f"a probe needs at least two classes, but every training label is {out[1][0]}")
    return out[0], out[1], out[2], out[3]
