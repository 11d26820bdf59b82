"""Makes versions of texts with the same meaning and with another meaning by replacing words (arXiv 2107.00440)."""

from __future__ import annotations

import json
import random
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from pairsift._base.checks import first_line
from pairsift._base.files import replacing
from pairsift.data import DataError, arrow
from pairsift.data.tables import TableRows, open_table
from pairsift.text.wordnet import Relation, Thesaurus, WordNet

SAME: tuple[Relation, ...] = ("synonym", "hypernym", "inflection")
# A word consists of letters, with apostrophes inside. `split` puts words at odd positions.
_WORD = re.compile(r"([^\W\d_]+(?:['\u2019][^\W\d_]+)*)")
_SENTENCE_END = re.compile(r"[.!?:;\n\"\u201c(>*-]")
# The number of first words to look up, and the share of English words below which a warning comes.
_ASKED, _FEWEST_KNOWN = 2_000, 0.4


class Change(NamedTuple):
    """A replaced word.

    Attributes:
        token: number of the word in the original, from 0.
        old, new: the word and its replacement.
        relation: "synonym", "hypernym", "inflection", "antonym" or "random".
        start, stop: place of `new` in the text of the view, in characters.
    """

    token: int
    old: str
    new: str
    relation: Relation
    start: int
    stop: int


class View(NamedTuple):
    """A text with replaced words.

    Attributes:
        text: the new text, with the spaces and punctuation of the original.
        replaced: whether each word of the original was replaced.
        changes: the replacements, in the order of the text.
    """

    text: str
    replaced: tuple[bool, ...]
    changes: tuple[Change, ...]


class SemanticViews(NamedTuple):
    """A text and its two views.

    Attributes:
        original: the text.
        tokens: the words of the text.
        synonym: the view with the same meaning, or None if no word could be replaced.
        antonym: the view with another meaning, or None if no word could be replaced.
    """

    original: str
    tokens: tuple[str, ...]
    synonym: View | None
    antonym: View | None


def semantic_views(
    texts: Iterable[str], synonyms: float = 0.4, antonyms: float = 0.2, *, random_share: float = 0.0, seed: int = 0,
    relations: Sequence[Relation] = SAME, thesaurus: Thesaurus | None = None,
) -> Iterator[SemanticViews]:  # fmt: skip
    """Make a version of each text with the same meaning, and one with another meaning (section 3 of arXiv 2107.00440).

    Case, punctuation, spaces and names (words with a capital inside a sentence) stay. The number of replaced words is
    the share of all words, rounded at random. It is at least one, and at most the number of words with a replacement.
    The draws depend on the seed and the text alone, not on other texts.

    Args:
        texts: texts of any length.
        synonyms: share of words that the synonym version replaces, in (0, 1].
        antonyms: share of words that the antonym version replaces, in (0, 1].
        random_share: probability in [0, 1] that an antonym version uses random words instead of antonyms. Above 0,
            random words also fill the share where there are too few antonyms, as in the paper.
        seed: seed of all draws.
        relations: relations that keep the meaning. For each word, one of those with a replacement is drawn.
        thesaurus: `thesaurus(word, relation)` returns the possible replacements of a lower-case word. None takes
            `WordNet()`, which is English.

    Yields:
        A `SemanticViews` for each text, in order.

    Raises:
        ValueError: a share out of range, an unknown relation, or no WordNet is found.
        TypeError: a thesaurus that cannot be called, a string instead of several, or a text that is not a string.

    Warns:
        UserWarning: few of the words are English, and no thesaurus is given.

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
    """Makes views of texts. `semantic_views` describes the arguments."""

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
        """Yield the views of each text, and warn if few words are English."""
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
    """The possible replacements of a word: words by relation, antonyms, and random words."""

    same: tuple[tuple[Relation, tuple[str, ...]], ...]
    antonyms: tuple[str, ...]
    others: Sequence[str]


class _Language:
    """Counts the first words that WordNet knows, and warns if they are few."""

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
    """Draw the wanted number of places, rounded at random, with `least` at least one."""
    count = max(int(wanted + draw.random()), int(least))
    return places if count >= len(places) else draw.sample(places, count) if count > 0 else []


def _drawn(same: tuple[tuple[Relation, tuple[str, ...]], ...], draw: random.Random) -> tuple[str, Relation]:
    relation, words = same[int(draw.random() * len(same))]
    return draw.choice(words), relation


def _another(words: Sequence[str], word: str, draw: random.Random) -> str:
    """A random word of a list, other than `word`."""
    at = int(draw.random() * len(words))
    return words[at] if words[at] != word.lower() else words[at - 1]


def _is_name(pieces: list[str], at: int) -> bool:
    """Whether a word has only its first letter capital, and does not start a sentence."""
    word = pieces[2 * at + 1]
    return at > 0 and word.istitle() and not _SENTENCE_END.search(pieces[2 * at])


def _view(pieces: list[str], new: dict[int, tuple[str, Relation]]) -> View | None:
    """The view with these new words, or None without any."""
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


# Usual names of the column of texts. The first one that a table has is taken.
TEXT_COLUMNS = ("text", "sentence", "texts", "sentences")
_ROWS, _EXAMPLES = 1024, 3
_CHANGES = pa.list_(
    pa.struct([
        ("token", pa.int32()), ("old", pa.string()), ("new", pa.string()), ("relation", pa.string()),
        ("start", pa.int32()), ("stop", pa.int32()),
    ])
)  # fmt: skip
_SCHEMA = pa.schema([
    ("text", pa.string()), ("words", pa.int32()), ("synonym", pa.string()), ("synonym_changes", _CHANGES),
    ("antonym", pa.string()), ("antonym_changes", _CHANGES),
])  # fmt: skip


@dataclass
class ViewSummary:
    """Counts of a file of views.

    Attributes:
        texts: number of texts.
        synonym, antonym, both: number of texts with a synonym version, with an antonym version, and with both.
        synonym_share, antonym_share: mean share of replaced words of the texts with this version, or 0 without any.
        seconds: duration.
        examples: the first texts with both versions.
    """

    texts: int = 0
    synonym: int = 0
    antonym: int = 0
    both: int = 0
    synonym_share: float = 0.0
    antonym_share: float = 0.0
    seconds: float = 0.0
    examples: list[SemanticViews] = field(default_factory=list)

    def add(self, views: SemanticViews) -> None:
        """Count a text."""
        self.texts += 1
        for name in ("synonym", "antonym"):
            view: View | None = getattr(views, name)
            if view is not None:
                count, share = getattr(self, name) + 1, f"{name}_share"
                now = len(view.changes) / len(view.replaced)
                setattr(self, name, count)
                setattr(self, share, getattr(self, share) + (now - getattr(self, share)) / count)
        if views.synonym is not None and views.antonym is not None:
            self.both += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(views)


def read_texts(path: Path, column: str | None = None) -> Iterator[str]:
    """Read the texts of a file a few at a time: the lines of a .txt file that are not empty, or a column of a table.

    Args:
        path: .txt, parquet, jsonl, csv or arrow.
        column: column of the texts. None takes "text", "sentence", "texts" or "sentences".

    Raises:
        DataError: the file is missing or not readable, has no column of texts, or has a row without a text.
    """
    if path.suffix == ".txt":
        if not path.is_file():
            raise DataError(f"no texts at {path}: give a table, parquet for example, or a .txt file with one a line")
        if column is not None:
            raise DataError(f"{path} is a .txt file and has no columns: leave `column` out")
        return _lines(path)
    table = open_table(path, "texts")
    names = table.schema.names
    found = column if column in names else None
    if column is None:
        found = next((each for each in TEXT_COLUMNS if each in names), None)
    if found is None:
        what = f"column {column!r}" if column else f"column called {' or '.join(TEXT_COLUMNS)}"
        raise DataError(f"{path} has no {what}; its columns: {', '.join(names)} (name one with `column`)")
    kind = arrow.only_field(str(path), table.schema, found).type
    if not arrow.is_text(kind):
        raise DataError(f"column {found!r} of {path} holds {kind}, not texts; its columns: {', '.join(names)}")
    return _cells(table, found)


def write_views(
    path: Path, output: Path, column: str | None = None, *, progress: Callable[[int], None] | None = None, **views: Any
) -> ViewSummary:
    """Write the views of the texts of a file as parquet, completely or not at all.

    The columns are text, words (their number), synonym and antonym (null without a version), and the changes of each:
    token, old, new, relation, and start and stop in characters of the version.

    Args:
        path, column: see `read_texts`.
        output: file to write.
        progress: called with the number of finished texts.
        **views: arguments of `semantic_views`.

    Raises:
        DataError: see `read_texts`; or the file has no text.
        ValueError: the output exists, its folder does not, or a setting is out of range.
    """
    if output.exists():
        raise ValueError(f"{output} is there already: remove it, or name another file")
    if not output.parent.is_dir():
        raise ValueError(f"the folder of {output} does not exist")
    texts = read_texts(path, column)
    start, summary = time.perf_counter(), ViewSummary()
    made = ViewMaker(**views).stream(texts)
    settings = {name: each for name, each in views.items() if isinstance(each, (int, float, str))}
    schema = _SCHEMA.with_metadata({"pairsift": json.dumps(settings)})
    with replacing(output) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for block in _blocks(made):
            for each in block:
                summary.add(each)
            writer.write_table(pa.Table.from_pylist([_row(each) for each in block], schema=schema))
            if progress is not None:
                progress(summary.texts)
        if not summary.texts:
            raise DataError(f"{path} holds no text")
    summary.seconds = time.perf_counter() - start
    return summary


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from filter(None, map(str.strip, file))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {first_line(error)}") from error


def _cells(table: TableRows, column: str) -> Iterator[str]:
    row = 0
    for piece in range(len(table.starts) - 1):
        for batch in table.piece(piece, _ROWS, [column]):
            for text in arrow.texts(batch.column(0), f"{table.name}, column {column!r}"):
                if text is None:
                    raise DataError(f"row {row} of {table.name} has no text in {column!r}: remove such rows")
                yield text
                row += 1


def _blocks(views: Iterable[SemanticViews]) -> Iterator[list[SemanticViews]]:
    every = iter(views)
    while block := list(islice(every, _ROWS)):
        yield block


def _row(views: SemanticViews) -> dict[str, Any]:
    row: dict[str, Any] = {"text": views.original, "words": len(views.tokens)}
    for name in ("synonym", "antonym"):
        view: View | None = getattr(views, name)
        row[name] = None if view is None else view.text
        row[f"{name}_changes"] = None if view is None else [change._asdict() for change in view.changes]
    return row
