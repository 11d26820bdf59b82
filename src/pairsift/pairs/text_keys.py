"""Keys of texts: hashes that ignore habits of spelling."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Typographic quotes, dashes and slashes, as typewriters have them.
_PLAIN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2035\u2039\u203a\u02b9\u02bc\u00b4\u055a\u05f3", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u2036\u00ab\u00bb\u05f4", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2044\u2215", "/")
)
# Characters that show nothing and are no format characters: joiners, fillers, selectors of variants; and the Arabic
# stroke that only makes words longer.
_IGNORED = frozenset(
    "\u034f\u0640\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
# White space before marks that end a phrase, and after those that begin one.
_END = "?!.,;:%)\\]}\u060c\u061b\u061f\u06d4\u0964\u0965\u3001\u3002"
_SPACED = re.compile(rf"\s+(?=[{_END}]+(?:[\s\"']|$))")
_OPENED = re.compile(r"([(\[{\u00a1\u00bf])\s+")
# French quotes keep a space inside. German ones point the other way.
_FRENCH = re.compile(r"\u00ab\s*([^\u00ab\u00bb]*?)\s*\u00bb")


def text_keys(texts: Iterable[str]) -> NDArray[np.int64]:
    """Keys of texts, equal where the texts are equal but for habits of spelling.

    Case, white space (also before marks that end a phrase, and inside brackets and French quotes), Unicode's compatible
    forms, typographic quotes and dashes, and characters that show nothing (zero-width spaces and joiners, soft hyphens,
    byte-order marks, control characters) make no difference.

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
    if not (text.isascii() and text.isprintable()):
        plain = "".join(each for each in text if not _is_ignored(each))
        if 0 <= plain.find("\u00ab") < plain.find("\u00bb"):
            plain = _FRENCH.sub(r'"\1"', plain)
        # Quotes and dashes first: the compatible form of some is a space and an accent.
        plain = unicodedata.normalize("NFKC", plain.translate(_PLAIN)).translate(_PLAIN)
    plain = plain.replace("``", '"').replace("''", '"')
    plain = " ".join(_OPENED.sub(r"\1", _SPACED.sub("", plain)).casefold().split())
    if not plain.isascii():
        plain = unicodedata.normalize("NFKC", plain)  # lower case can need accents in another order
    return short_hash(plain.encode("utf-8", "surrogatepass"))


@cache
def _is_ignored(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind == "Cf" or (kind == "Cc" and not character.isspace()) or character in _IGNORED


def short_hash(data: bytes) -> int:
    """Hash of 53 bits, which is exact as a float64 too; two of a million collide with a chance of 6e-5."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 11
