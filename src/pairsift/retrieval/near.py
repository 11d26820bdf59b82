"""Near-duplicates: texts that are spelled nearly alike, and texts that a guide finds far closer than usual neighbours.

Spelling is compared by the Jaccard similarity of sets of shingles. A short text has three-letter shingles of its words,
which ignore the order of words. A long text has pairs of neighbouring words, because most long texts share most parts
of three letters. Candidates come from MinHash in bands (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, ch. 3) and are then compared exactly. The whole text counts, even where an encoder reads only its beginning.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from pairsift.retrieval.columns import FloatArray, IntArray
from pairsift.retrieval.index import BLOCK, Pairing, Search, UnitFeatures, dots

# Texts of fewer words have shingles of letters, texts of more have shingles of words, texts between have both.
_FEW_WORDS, _MANY_WORDS = 48, 32
# Two texts are candidates where the minima of `_IN_BAND` hashes agree in one of the bands: 99.6 % of the pairs with
# a similarity of 0.7, 94 % of those with 0.6, 4 % of those with 0.2. Of many texts most candidates would be pairs of
# little similarity, so more hashes must agree: 99.8 % of the pairs with 0.8, 92 % of those with 0.7, 1 % with 0.3.
_IN_BAND, _BANDS = 4, 20
_MANY_TEXTS, _MORE_IN_BAND = 50_000, 6
# All texts of a bucket are compared with each other. In a larger bucket each is compared with the `_FOLLOWING` next.
_BUCKET, _FOLLOWING = 64, 16
_PAIRS_AT_ONCE = 65_536
# Least similarity of spelling that is looked at, and the least that counts where the guide is nearly sure.
_LEAST, _MOSTLY = 0.5, 0.65
# A wrong letter or two: the least similarity of two words with the same first letter, their least length, how many.
_TYPO, _TYPO_LENGTH, _TYPOS = 0.8, 4, 2
_WORD, _DIGIT = re.compile(r"\w+"), re.compile(r"\d")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u2018`")

# The neighbour whose distance is the measure, and the part of it that is near: in m dimensions a part t^(m/2) of all
# neighbours at squared distances up to d lies within t d, a hundred-thousandth for m = 10. The larger part is near for
# texts that are mostly spelled alike.
_NEIGHBOUR, _PART, _LARGER_PART = 10, 0.1, 0.2
_NEAR_SAMPLE = 2048
# Lists of an inverted file that are read for near-duplicates, which lie in the same list or in the next.
_NEAR_PROBES = 2
# With fewer texts their tenth neighbour lies anywhere.
_FEWEST = 3 * _NEIGHBOUR


@dataclass(frozen=True)
class TextPairs:
    """Pairs of texts: first, second and similarity (M,), most similar first."""

    first: NDArray[np.signedinteger[Any]]
    second: NDArray[np.signedinteger[Any]]
    similarity: FloatArray

    def __len__(self) -> int:
        return len(self.first)

    def within(self, texts: NDArray[np.bool_], others: NDArray[np.bool_] | None = None) -> TextPairs:
        """The pairs between (T,) some texts, or between some and (T,) others, which then come second."""
        if others is None:
            return self.taken(texts[self.first] & texts[self.second])
        turned = TextPairs(self.second, self.first, self.similarity)
        parts = [each.taken(texts[each.first] & others[each.second]) for each in (self, turned)]
        return joined(parts, ordered=False)

    def taken(self, chosen: NDArray[np.bool_] | slice) -> TextPairs:
        """Some of the pairs: (M,) which, or a slice."""
        return TextPairs(self.first[chosen], self.second[chosen], self.similarity[chosen])


def joined(parts: list[TextPairs], ordered: bool = True) -> TextPairs:
    """Several lists of pairs as one, each pair once, with its first similarity.

    Args:
        parts: the lists.
        ordered: a pair is the same whichever text is first; otherwise the order stays.
    """
    first, second = (np.concatenate([getattr(each, side) for each in parts]) for side in ("first", "second"))
    similarity = np.concatenate([each.similarity for each in parts])
    if ordered:
        first, second = np.minimum(first, second), np.maximum(first, second)
    once = np.unique(first.astype(np.int64) << 32 | second, return_index=True)[1]
    once = once[np.argsort(-similarity[once], kind="stable")]
    return TextPairs(first[once], second[once], similarity[once])


NO_PAIRS = TextPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


# Spelling


class Spelling:
    """How T texts are spelled: sets of shingles, and the pairs that are alike.

    Args:
        blocks: texts, block by block.

    Attributes:
        words: (T,) number of words of each text.
    """

    def __init__(self, blocks: Iterable[list[str]]) -> None:
        self._plain: list[str] = []
        words: list[int] = []
        numbers: list[int] = []
        for block in blocks:
            for text in block:
                found = _words(text)
                self._plain.append(" ".join(found))
                words.append(len(found))
                numbers.append(zlib.crc32(" ".join(sorted(filter(_DIGIT.search, found))).encode()))
        self._numbers = np.array(numbers, np.int64)
        self.words = np.array(words, np.int64)

    def alike(self, least: float = _LEAST) -> TextPairs:
        """Pairs of texts with a Jaccard similarity of at least `least`.

        Texts of few words are never alike where they hold different numbers.
        """
        few, many = np.flatnonzero(self.words < _FEW_WORDS), np.flatnonzero(self.words >= _MANY_WORDS)
        letters = self._similar(few, _letter_shingles([self._plain[each] for each in few.tolist()]), least)
        letters = letters.taken(self._numbers[letters.first] == self._numbers[letters.second])
        pairs = self._similar(many, _word_shingles([self._plain[each] for each in many.tolist()]), least)
        return joined([letters, pairs])

    def resemblance(self, first: IntArray, second: IntArray) -> FloatArray:
        """(M,) Jaccard similarity of the word pairs of texts, or of their words where one has a single word."""
        texts, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        sets = _word_shingles([self._plain[each] for each in texts.tolist()])
        return _jaccard(sets, places[: len(first)], places[len(first) :])

    def misspelled(self, pairs: TextPairs) -> NDArray[np.bool_]:
        """(M,) pairs that differ in a letter or two of at most two longer words."""
        sides = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        return np.array([_misspelled(self._plain[a].split(), self._plain[b].split()) for a, b in sides], bool)

    def _similar(self, owners: IntArray, sets: csr_array, least: float) -> TextPairs:
        parts = [NO_PAIRS]
        for first, second in _candidates(sets):
            similarity = _jaccard(sets, first, second)
            kept = similarity >= least
            parts.append(TextPairs(owners[first[kept]], owners[second[kept]], similarity[kept]))
        return joined(parts)


def _words(text: str) -> list[str]:
    """Words in small letters without punctuation; the text itself where it has no letter and no digit."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _WORD.findall(plain.casefold().translate(_APOSTROPHES)) or plain.split()


def _misspelled(first: list[str], second: list[str]) -> bool:
    mine, theirs = Counter(first) - Counter(second), Counter(second) - Counter(first)
    left, right = sorted(mine.elements()), sorted(theirs.elements())
    if len(left) != len(right) or not 0 < len(left) <= _TYPOS:
        return False
    for word in left:
        fits = [other for other in right if _same_word(word, other)]
        if not fits:
            return False
        right.remove(fits[0])
    return True


def _same_word(word: str, other: str) -> bool:
    if min(len(word), len(other)) < _TYPO_LENGTH or any(each.isdigit() for each in word + other):
        return False
    return word[0] == other[0] and SequenceMatcher(None, word, other).ratio() >= _TYPO


def _letter_shingles(texts: list[str]) -> csr_array:
    """(N, 2^31) sets of three-letter parts of the words of each text; the ends of a word count as letters."""
    rows, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), BLOCK):
        joint = "\0".join(f" {text} " for text in texts[start : start + BLOCK])
        codes = np.frombuffer(joint.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        a, b, c = codes[:-2], codes[1:-1], codes[2:]
        chosen = (a != 0) & (b != 0) & (c != 0) & (b != ord(" "))
        owners = np.cumsum(codes == 0)[1:-1][chosen] + start
        # Unicode has fewer than 2^21 letters; a product with a large odd number mixes the 63 bits.
        mixed = ((a << np.uint64(42) | b << np.uint64(21) | c)[chosen] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
        rows.append(owners)
        values.append(mixed.astype(np.int64))
    return _sets(np.concatenate(rows), np.concatenate(values), len(texts))


def _word_shingles(texts: list[str]) -> csr_array:
    """(N, 2^31) sets of pairs of words that follow each other; the word itself of a text that has but one."""
    rows, values = [], []
    for row, text in enumerate(texts):
        words = text.split()
        parts = [f"{a} {b}" for a, b in pairwise(words)] or [text]
        found = {zlib.crc32(part.encode("utf-8", "surrogatepass")) for part in parts}
        values.append(np.fromiter(found, np.int64, len(found)) >> 1)
        rows.append(np.full(len(found), row))
    none = np.zeros(0, np.int64)
    return _sets(np.concatenate([none, *rows]), np.concatenate([none, *values]), len(texts))


def _sets(rows: IntArray, values: IntArray, n: int) -> csr_array:
    codes = np.unique(rows << 31 | values)
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes >> 31, minlength=n))])
    columns = (codes & (2**31 - 1)).astype(np.int32)
    return csr_array((np.ones(len(columns), np.float32), columns, starts.astype(np.int64)), shape=(n, 2**31 - 1))


def _candidates(sets: csr_array) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of rows that share a band of MinHash, band by band, the smaller number first."""
    n = sets.shape[0]
    filled = np.flatnonzero(np.diff(sets.indptr))
    if len(filled) < 2:
        return
    rng = np.random.default_rng(0)
    values, starts = sets.indices.astype(np.uint32), sets.indptr[filled]
    for _ in range(_BANDS):
        key = np.zeros(len(filled), np.uint64)
        for _ in range(_IN_BAND if n < _MANY_TEXTS else _MORE_IN_BAND):
            factor, offset = rng.integers(1, 2**32, 2, dtype=np.uint32)
            hashed = values * (factor | np.uint32(1)) + offset
            hashed ^= hashed >> np.uint32(15)  # the low bits of a product say little of the high ones
            lowest = np.minimum.reduceat(hashed * np.uint32(0x85EBCA6B), starts).astype(np.uint64)
            key = key * np.uint64(0x100000001B3) ^ lowest
        codes = _bucket_pairs(key, filled, n)
        yield codes // n, codes % n


def _bucket_pairs(keys: NDArray[np.uint64], rows: IntArray, n: int) -> IntArray:
    """Pairs of rows with one key, as `smaller * n + larger`."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.concatenate([first, [len(ordered)]]))
    size = np.repeat(sizes, sizes)
    ends = np.repeat(first + sizes, sizes)
    reach = np.where(size <= _BUCKET, size, _FOLLOWING)
    places, out = np.arange(len(ordered)), [np.zeros(0, np.int64)]
    for step in range(1, int(reach.max(initial=1))):
        here = places[(step < reach) & (places + step < ends)]
        if not len(here):
            break
        a, b = rows[order[here]], rows[order[here + step]]
        out.append(np.minimum(a, b) * np.int64(n) + np.maximum(a, b))
    return np.concatenate(out)


def _jaccard(sets: csr_array, first: IntArray, second: IntArray) -> FloatArray:
    """(M,) shares of the shingles of two rows that both have."""
    sizes, out = np.diff(sets.indptr), np.zeros(len(first), np.float32)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        both = np.asarray(sets[first[some]].multiply(sets[second[some]]).sum(axis=1)).ravel()
        out[some] = both / np.maximum(sizes[first[some]] + sizes[second[some]] - both, 1)
    return out


# Near-duplicates


@dataclass(frozen=True)
class NearDuplicates:
    """Near-duplicates among texts.

    Attributes:
        threshold: cosine under the guide from which texts are near; None without a guide, or for too few texts.
        pairs: of texts, each once, with the cosine under the guide or else the similarity of spelling. The guide
            compares the ten nearest of every text.
        groups: (T,) the first text of each connected group of near texts.
    """

    threshold: float | None
    pairs: TextPairs
    groups: IntArray

    @property
    def by_guide(self) -> NDArray[np.bool_]:
        """(M,) pairs that are near under the guide; the others are near by their spelling."""
        return np.asarray(self.pairs.similarity > (math.inf if self.threshold is None else self.threshold))


class NearTexts(NamedTuple):
    """Finds near-duplicates by features and by spelling.

    Attributes:
        features: of all texts; None without a guide.
        spelling: of all texts; None for embeddings.
        alike: pairs of texts that share half of their shingles or more.
        cut: (T,) texts that are longer than the guide reads.
        near: similarity from which two texts are near; None derives it.
        spelled: Jaccard similarity of spelling from which two texts are near.
        seed: of samples.
    """

    features: UnitFeatures | None
    spelling: Spelling | None
    alike: TextPairs
    cut: NDArray[np.bool_]
    near: float | None
    spelled: float
    seed: int

    def among(self, search: Search | None, texts: IntArray, n: int) -> NearDuplicates:
        """Near-duplicates among some texts.

        Args:
            search: of these texts; None without a guide.
            texts: (C,) different texts, ascending.
            n: T, the number of all texts.
        """
        chosen = np.zeros(n, bool)
        chosen[texts] = True
        threshold, usual = self._thresholds(search, texts)
        found = [] if search is None or threshold is None else [self._guided(search, texts, threshold, texts)]
        found.append(self._spelled(self.alike.within(chosen), usual))
        pairs = joined(found)
        return NearDuplicates(threshold, pairs, _groups(pairs, n))

    def between(self, search: Search | None, texts: IntArray, others: IntArray, n: int) -> TextPairs:
        """Near-duplicates between some texts and others, which come second.

        Args:
            search: of the texts; None without a guide.
            texts, others: (C,) and (E,) different texts.
            n: T, the number of all texts.
        """
        sides = np.zeros((2, n), bool)
        sides[0, texts] = sides[1, others] = True
        threshold, usual = self._thresholds(search, texts)
        found = [self._spelled(self.alike.within(sides[0], sides[1]), usual)]
        if search is not None and threshold is not None:
            found.append(self._guided(search, texts, threshold, others))
        return joined(found, ordered=False)

    def _thresholds(self, search: Search | None, texts: IntArray) -> tuple[float | None, float]:
        """The similarity that is near, and the one that is near for texts that are mostly spelled alike.

        The distance 1 - cosine of the tenth neighbour, in the median, is usual; a tenth of it is near. It is the tenth
        neighbour because texts that come in several near versions would make the distance of the first one small.
        """
        if search is None or self.features is None:
            return None, math.inf
        if len(texts) < _FEWEST:
            return self.near, math.inf
        chosen = np.random.default_rng(self.seed).choice(texts, min(len(texts), _NEAR_SAMPLE), replace=False)
        cosines, _ = search(self.features.take(chosen), _NEIGHBOUR + 1)
        distance = 1 - float(np.median(cosines[:, -1]))
        return 1 - _PART * distance if self.near is None else self.near, 1 - _LARGER_PART * distance

    def _guided(self, search: Search, texts: IntArray, least: float, queries: IntArray) -> TextPairs:
        """Pairs of a text and a query that the guide finds near; texts longer than it reads must be spelled alike."""
        assert self.features is not None
        parts = [NO_PAIRS]
        for start, block in self.features.blocks(queries, BLOCK):
            cosines, found = search(block, _NEIGHBOUR + 1, probes=_NEAR_PROBES)
            places, columns = np.nonzero(cosines > least)
            first, second = found[places, columns], queries[start + places]
            other = first != second
            parts.append(TextPairs(first[other], second[other], cosines[places, columns][other]))
        pairs = joined(parts, ordered=queries is texts)
        if self.spelling is not None:
            partly = np.flatnonzero(self.cut[pairs.first] | self.cut[pairs.second])
            kept = np.ones(len(pairs), bool)
            kept[partly] = self.spelling.resemblance(pairs.first[partly], pairs.second[partly]) >= _LEAST
            pairs = pairs.taken(kept)
        return pairs

    def _spelled(self, pairs: TextPairs, usual: float) -> TextPairs:
        """The pairs that are near, by spelling alone or by spelling and guide."""
        if self.spelling is None or not len(pairs):
            return NO_PAIRS
        near = pairs.similarity >= self.spelled
        open_ = np.flatnonzero(~near)
        near[open_] = self.spelling.misspelled(pairs.taken(~near))
        similarity = pairs.similarity
        if self.features is not None:
            similarity = _cosines(self.features, pairs)
            read = ~(self.cut[pairs.first] | self.cut[pairs.second])
            near |= (pairs.similarity >= _MOSTLY) & (similarity >= usual) & read
        return TextPairs(pairs.first[near], pairs.second[near], similarity[near])


@dataclass(frozen=True)
class Leaks:
    """Texts that the pairs share with an evaluation set.

    Attributes:
        name: of the evaluation set.
        texts: number of its different texts.
        same, near: (n,) pairs whose anchor or positive is one of these texts, or a near-duplicate of one.
        pairs: near-duplicates, a text of the pairs and a text of the evaluation set.
    """

    name: str
    texts: int
    same: NDArray[np.bool_]
    near: NDArray[np.bool_]
    pairs: TextPairs


@dataclass(frozen=True)
class CloseTexts:
    """Near-duplicates among anchors and among positives, and leaks of an evaluation set.

    Attributes:
        anchors, positives: near-duplicates on each side.
        leaks: None without an evaluation set.
        words: (T,) words of each text; None for embeddings.
        cut: (T,) texts that are longer than the guide reads.
    """

    anchors: NearDuplicates
    positives: NearDuplicates
    leaks: Leaks | None
    words: IntArray | None
    cut: NDArray[np.bool_]


def find_leaks(pairing: Pairing, name: str, found: list[TextPairs]) -> Leaks:
    """The leaks of the evaluation set called `name`, from its near-duplicates with each side of the pairs."""
    pairs = joined(found, ordered=False)
    same, near = np.zeros((2, pairing.n_texts), bool)
    same[pairing.further["against"]] = True
    near[pairs.first] = True
    rows = [each[pairing.anchors] | each[pairing.positives] for each in (same, near)]
    return Leaks(name, len(pairing.further["against"]), rows[0], rows[1] & ~rows[0], pairs)


def _cosines(features: UnitFeatures, pairs: TextPairs) -> FloatArray:
    """(M,) cosines of pairs of texts."""
    out = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), BLOCK):
        some = slice(start, start + BLOCK)
        out[some] = dots(features.take(pairs.first[some]), features.take(pairs.second[some]))
    return out


def _groups(pairs: TextPairs, n: int) -> IntArray:
    links = coo_array((np.ones(len(pairs), bool), (pairs.first, pairs.second)), shape=(n, n))
    labels = connected_components(links, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    return np.asarray(first[labels], np.int64)
