"""Which texts are the same text: by a hash of what is left when spelling habits are taken away."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# 53 bits, so that a key is exact as a float64 too; two of a million texts collide with a chance of 6e-5.
_BITS = 53


def text_keys(texts: Iterable[str]) -> NDArray[np.int64]:
    """Keys of texts, equal where the texts are equal but for case, white space and Unicode's compatible forms.

    Args:
        texts: N texts.

    Returns:
        (N,) int64 in [0, 2^53), the same in every process and on every machine.

    Raises:
        TypeError: a text that is no string, by its number.

    Example:
        >>> import pairsift as ps
        >>> first, second, third = ps.text_keys(["Lost my card", "lost  my card ", "card lost"])
        >>> bool(first == second), bool(first == third)
        (True, False)
    """
    return np.fromiter((_key(number, text) for number, text in enumerate(texts)), dtype=np.int64)


def _key(number: int, text: str) -> int:
    if not isinstance(text, str):
        raise TypeError(f"text {number} is {text!r}, not a string: leave such rows out or write them as texts")
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    digest = hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _BITS)
