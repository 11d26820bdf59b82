"""Keys of texts: hashes that ignore habits of spelling."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Typographic quotes and dashes, as typewriters have them.
_PLAIN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
)
# White space before a mark that ends a phrase.
_SPACED = re.compile(r"\s+(?=[?!.,;:])")


def text_keys(texts: Iterable[str]) -> NDArray[np.int64]:
    """Keys of texts, equal where the texts are equal but for habits of spelling.

    Case, white space (also before ``?!.,;:``), Unicode's compatible forms, typographic quotes and dashes, and
    characters without width (zero-width spaces and joiners, soft hyphens, byte-order marks) make no difference.

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
    plain = text
    if not text.isascii():
        # Quotes and dashes first: the compatible form of some is a space and an accent.
        plain = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
        plain = "".join(each for each in plain if unicodedata.category(each) != "Cf")
    plain = " ".join(_SPACED.sub("", plain).casefold().split())
    return short_hash(plain.encode("utf-8", "surrogatepass"))


def short_hash(data: bytes) -> int:
    """Hash of 53 bits, which is exact as a float64 too; two of a million collide with a chance of 6e-5."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 11
