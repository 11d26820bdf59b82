"""Checks of arguments: tensors, arrays of real numbers, features, classes, and renamed keywords."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def check_tensors(needed: dict[str, Any], **optional: Any) -> None:
    """Refuse arguments, by name, that are no tensors; optional ones may be None.

    Raises:
        TypeError: something else; it is named.
    """
    for name, value in (needed | {name: value for name, value in optional.items() if value is not None}).items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}: torch.as_tensor makes one")


def real_array(values: Any, name: str, error: type[ValueError] = ValueError) -> NDArray[Any]:
    """An array of real numbers: masked entries become nan, and objects that are numbers become float64.

    Args:
        values: an array, a tensor, or lists of numbers.
        name: of it, for the error.
        error: its type.

    Raises:
        ValueError: no array, or one of something else than whole or floating-point numbers.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "fiub":
        values = np.ma.filled(values.astype(np.float64), np.nan) if np.ma.is_masked(values) else values.data
    try:
        array = np.asarray(values)
        if values is not None and array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as trouble:
        raise error(f"{name} must be an array of numbers, got {type(values).__name__}: {trouble}") from trouble
    if array.dtype.kind not in "fiub":
        raise error(f"{name} must be an array of real numbers, got {array.dtype}")
    # To torch a negative stride is an error even where it has nothing to step over.
    return array.copy() if min(array.strides, default=0) < 0 else array


def feature_matrix(
    values: Any, name: str, dtype: type[np.floating[Any]] = np.float32, error: type[ValueError] = ValueError
) -> NDArray[Any]:
    """Features as a finite, contiguous (N, D) matrix, N and D >= 1; values and errors as in `real_array`.

    Raises:
        ValueError: another shape, or a row that is not finite in the type; it is named.
    """
    x = real_array(values, name, error)
    if x.ndim != 2 or 0 in x.shape:
        raise error(f"{name} must be a non-empty (N, D) matrix, got shape {x.shape}")
    with np.errstate(over="ignore"):  # refused below
        x = np.ascontiguousarray(x, dtype)
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise error(f"{name} row {bad[0]} is not finite in {x.dtype} ({len(bad)} of {len(x)} rows)")
    return x


def unmasked(values: Any, name: str, error: type[ValueError] = ValueError) -> NDArray[Any]:
    """An array without masked values.

    Raises:
        ValueError: masked values, since numpy would take the values behind the mask.
    """
    if np.ma.is_masked(values):
        count = int(np.ma.getmaskarray(values).sum())
        raise error(f"{name} have {count} masked values: fill them, or leave their rows out")
    return np.asarray(values)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its name, in characters that can be printed."""
    line = next((each for each in str(error).splitlines() if each.strip()), type(error).__name__)
    return "".join(each if each.isprintable() else "?" for each in line)


def class_labels(values: Any, name: str, error: type[ValueError] = ValueError) -> NDArray[Any]:
    """Labels as whole numbers or strings, which can be sorted and compared.

    Raises:
        ValueError: values of another type, or numbers that are not whole.
    """
    array = unmasked(label_array(values, name, error), name, error)
    if array.dtype.kind == "O" and array.size:
        array = _plain(array)
    whole = array.dtype.kind != "f" or (np.isfinite(array).all() and (array == np.round(array)).all())
    if not whole or (array.dtype.kind not in "iubfUST"):
        what = "numbers that are not whole" if array.dtype.kind == "f" else str(array.dtype)
        raise error(f"{name} must be whole numbers or names of classes, got {what}")
    return array


def label_array(values: Any, name: str, error: type[ValueError] = ValueError) -> NDArray[Any]:
    """Labels of any type as an array; a masked array stays one.

    Raises:
        ValueError: lists of several lengths.
    """
    values = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    try:
        return np.asanyarray(values)
    except (ValueError, TypeError) as trouble:
        raise error(f"{name} must be one whole number or name a row: {trouble}") from trouble


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Objects that are all texts, or all whole numbers, as an array of these."""
    for kind, dtype in ((str, np.str_), ((bool, int, np.integer, np.bool_), np.int64)):
        if all(isinstance(each, kind) for each in array.flat):
            return array.astype(dtype)
    return array


def take_renamed(
    owner: str, given: Mapping[str, Any], kept: Mapping[str, str], gone: Mapping[str, str] | None = None,
    stacklevel: int = 3,
) -> dict[str, Any]:  # fmt: skip
    """Keyword arguments that have new names.

    Args:
        owner: name of the function or class, for messages.
        given: arguments that the signature does not name.
        kept: old name -> new name of those that work for one more release, with a warning.
        gone: the same of those that no longer work.
        stacklevel: of the warnings; 3 is the line that called the owner.

    Returns:
        Values by their new names.

    Raises:
        TypeError: an argument that is none of these, or no longer one; the message gives the new name.
    """
    found = {}
    for name, value in given.items():
        if name in kept:
            warnings.warn(
                f"{owner}: {name}= is called {kept[name]}= now, and the old name will go with the next release",
                DeprecationWarning, stacklevel=stacklevel,
            )  # fmt: skip
            found[kept[name]] = value
        elif gone is not None and name in gone:
            raise TypeError(f"{owner}: {name}= is called {gone[name]}= now")
        else:
            raise TypeError(f"{owner} has no argument {name!r}")
    return found
