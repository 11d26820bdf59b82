"""Semantic views: a text with words replaced so that its meaning stays, and so that it turns (arXiv 2107.00440)."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, get_args

from pairsift.text.wordnet import Relation, Thesaurus, WordNet

SAME: tuple[Relation, ...] = ("synonym", "hypernym", "inflection")
# A word: letters, with apostrophes inside. Split by it, a text has its words at odd places.
_WORD = re.compile(r"([^\W\d_]+(?:['\u2019][^\W\d_]+)*)")
_SENTENCE_END = re.compile(r"[.!?:;\n\"\u201c(>*-]")
# The share of English words among the first so many, below which a language is doubted.
_ASKED, _FEWEST_KNOWN = 2_000, 0.4


class Change(NamedTuple):
    """One word that was replaced.

    Attributes:
        token: which word of the original, counted from 0.
        old, new: the word, and what stands in its place.
        relation: "synonym", "hypernym", "inflection", "antonym" or "random".
        start, stop: where `new` stands in the view's text, in characters.
    """

    token: int
    old: str
    new: str
    relation: Relation
    start: int
    stop: int


class View(NamedTuple):
    """A text with words replaced.

    Attributes:
        text: the whole of it; spaces and punctuation are the original's.
        replaced: of each word of the original, whether it was replaced.
        changes: what was replaced by what, in the order of the text.
    """

    text: str
    replaced: tuple[bool, ...]
    changes: tuple[Change, ...]


class SemanticViews(NamedTuple):
    """A text and its two views.

    Attributes:
        original: the text.
        tokens: its words.
        synonym: the view of the same meaning; None where no word could be replaced.
        antonym: the view of another meaning; None where no word could be replaced.
    """

    original: str
    tokens: tuple[str, ...]
    synonym: View | None
    antonym: View | None


def semantic_views(
    texts: Iterable[str], synonyms: float = 0.4, antonyms: float = 0.2, *, random_share: float = 0.0, seed: int = 0,
    relations: Sequence[Relation] = SAME, thesaurus: Thesaurus | None = None,
) -> Iterator[SemanticViews]:  # fmt: skip
    """For each text one version of the same meaning and one of another (section 3 of arXiv 2107.00440), as they come.

    Words that a text is made of are replaced as wholes; case, punctuation and spaces stay. The number of words is the
    share of all words, rounded at random, at least one, and at most as many as there are replacements for. Names
    (capitals within a sentence) are left alone. What is drawn depends on the seed and the text alone, never on where
    or with which others it stands.

    Args:
        texts: sentences or longer ones.
        synonyms: share of a text's words that the synonym version replaces, in (0, 1].
        antonyms: share that the antonym version replaces, in (0, 1].
        random_share: probability in [0, 1] with which an antonym version is made of random words instead. Above 0,
            random words also fill the share up where antonyms are too few, as in the paper; at 0 only antonyms count.
        seed: of all draws.
        relations: what keeps the meaning; for each word one is drawn, and the next is tried where it gives nothing.
        thesaurus: `thesaurus(word, relation)` gives what may stand in the place of a lower-case word, or nothing;
            None takes `WordNet()`, which is English.

    Yields:
        A `SemanticViews` for each text, in order; a view is None where no word can be replaced.

    Raises:
        ValueError: a share out of range, an unknown relation, or no WordNet is found.
        TypeError: a thesaurus that cannot be called, one string instead of several, or a text that is none.

    Example:
        >>> import pairsift as ps
        >>> (views,) = ps.text.semantic_views(["My salary increased."], seed=1)
        >>> views.antonym.text, views.antonym.replaced, views.antonym.changes[0].new
        ('My salary decreased.', (False, False, True), 'decreased')
        >>> [views.antonym for views in ps.text.semantic_views(["Why is that?"])]
        [None]
    """
    if isinstance(texts, str):
        raise TypeError("texts must be several strings, not one: pass [text]")
    maker = ViewMaker(synonyms, antonyms, random_share, seed, relations, thesaurus)
    return maker.stream(texts)


class ViewMaker:
    """`semantic_views` for one text after the other; see there for the arguments."""

    def __init__(
        self,
        synonyms: float = 0.4,
        antonyms: float = 0.2,
        random_share: float = 0.0,
        seed: int = 0,
        relations: Sequence[Relation] = SAME,
        thesaurus: Thesaurus | None = None,
    ) -> None:
        for name, share in (("synonyms", synonyms), ("antonyms", antonyms)):
            if not 0 < share <= 1:
                raise ValueError(f"{name} must be a share of the words in (0, 1], got {share}")
        if not 0 <= random_share <= 1:
            raise ValueError(f"random_share must be a probability in [0, 1], got {random_share}")
        unknown = [each for each in relations if each not in get_args(Relation)]
        if unknown or not relations:
            raise ValueError(f"relations must be some of {', '.join(get_args(Relation))}, got {list(relations)}")
        if thesaurus is not None and not callable(thesaurus):
            raise TypeError(f"thesaurus must be called with (word, relation), got {type(thesaurus).__name__}")
        self.synonyms, self.antonyms, self.random_share, self.seed = synonyms, antonyms, random_share, seed
        self.relations = tuple(relations)
        self.thesaurus = thesaurus or WordNet()
        self._options = lru_cache(maxsize=1 << 17)(self._looked_up)

    def stream(self, texts: Iterable[str]) -> Iterator[SemanticViews]:
        """The views of each text; a warning where the texts do not look like the thesaurus's language."""
        language = _Language(self.thesaurus) if isinstance(self.thesaurus, WordNet) else None
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"texts must be strings, got {type(text).__name__}: {text!r:.60}")
            views = self.views(text)
            if language is not None and not language.settled:
                language.heard(views.tokens)
            yield views
        if language is not None and not language.settled:
            language.settle()

    def views(self, text: str) -> SemanticViews:
        """The views of one text."""
        pieces = _WORD.split(text)
        words = pieces[1::2]
        draw = random.Random(f"{self.seed} {text}")
        lowered = [None if _is_name(pieces, at) else word.lower() for at, word in enumerate(words)]
        found = [None if word is None else self._options(word) for word in lowered]
        same = [at for at, each in enumerate(found) if each is not None and each.same]
        turned = [at for at, each in enumerate(found) if each is not None and each.antonyms]
        chosen = _chosen(same, self.synonyms * len(words), draw)
        synonym = {at: _drawn(found[at].same, draw) for at in chosen}  # type: ignore[union-attr]
        by_chance = self.random_share and draw.random() < self.random_share
        antonym: dict[int, tuple[str, Relation]] = {}
        if not by_chance:
            for at in _chosen(turned, self.antonyms * len(words), draw):
                antonym[at] = draw.choice(found[at].antonyms), "antonym"  # type: ignore[union-attr]
        if self.random_share:
            rest = [at for at, each in enumerate(found) if each is not None and each.others and at not in antonym]
            for at in _chosen(rest, self.antonyms * len(words) - len(antonym), draw, least=not antonym):
                antonym[at] = _another(found[at].others, words[at], draw), "random"  # type: ignore[union-attr]
        return SemanticViews(text, tuple(words), _view(pieces, synonym), _view(pieces, antonym))

    def _looked_up(self, word: str) -> _Options:
        same = [(relation, tuple(self.thesaurus(word, relation))) for relation in self.relations]
        others = self.thesaurus(word, "random") if self.random_share else ()
        return _Options(
            tuple((relation, words) for relation, words in same if words),
            tuple(self.thesaurus(word, "antonym")), others if len(others) > 1 else (),
        )  # fmt: skip


class _Options(NamedTuple):
    """What may stand in a word's place."""

    same: tuple[tuple[Relation, tuple[str, ...]], ...]
    antonyms: tuple[str, ...]
    others: Sequence[str]


class _Language:
    """Listens to the first words, and doubts their language where WordNet knows few."""

    def __init__(self, wordnet: WordNet) -> None:
        self.wordnet, self.settled = wordnet, False
        self._words = self._known = 0

    def heard(self, words: Sequence[str]) -> None:
        self._words += len(words)
        self._known += sum(self.wordnet.knows(word.lower()) for word in words)
        if self._words >= _ASKED:
            self.settle()

    def settle(self) -> None:
        self.settled = True
        if self._words and self._known < _FEWEST_KNOWN * self._words:
            warnings.warn(
                f"WordNet is English and knows {100 * self._known / self._words:.0f} % of the first {self._words:,} "
                "words: for another language pass thesaurus=, a function of (word, relation)",
                stacklevel=3,
            )


def _chosen(places: list[int], wanted: float, draw: random.Random, least: bool = True) -> list[int]:
    """So many of the places, the fraction decided by chance; at least one where any is wanted and there."""
    count = max(int(wanted + draw.random()), int(least))
    return places if count >= len(places) else draw.sample(places, count) if count > 0 else []


def _drawn(same: tuple[tuple[Relation, tuple[str, ...]], ...], draw: random.Random) -> tuple[str, Relation]:
    relation, words = same[int(draw.random() * len(same))]
    return draw.choice(words), relation


def _another(words: Sequence[str], word: str, draw: random.Random) -> str:
    """A random word that is another one; the list has more than one."""
    at = int(draw.random() * len(words))
    return words[at] if words[at] != word.lower() else words[at - 1]


def _is_name(pieces: list[str], at: int) -> bool:
    """Whether a word has a capital although no sentence starts with it; where all is in capitals nothing is a name."""
    word = pieces[2 * at + 1]
    return at > 0 and word.istitle() and not _SENTENCE_END.search(pieces[2 * at])


def _view(pieces: list[str], new: dict[int, tuple[str, Relation]]) -> View | None:
    """The text with words replaced; None where none are."""
    if not new:
        return None
    parts, at, changes = list(pieces), 0, []
    for number, piece in enumerate(pieces):
        if number % 2 and number // 2 in new:
            word, relation = new[number // 2]
            parts[number] = word = _in_case(word, piece)
            changes.append(Change(number // 2, piece, word, relation, at, at + len(word)))
        at += len(parts[number])
    return View("".join(parts), tuple(place in new for place in range(len(pieces) // 2)), tuple(changes))


def _in_case(word: str, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word
