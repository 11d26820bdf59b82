"""Keys of texts."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import pairsift as ps


@given(st.text())
def test_spelling_habits_do_not_count(text):
    plain, changed = ps.text_keys([text, f"  {text.replace(' ', chr(9))}\n"])
    assert plain == changed
    assert 0 <= plain < 2**53
    assert int(np.float64(plain)) == plain


def test_case_and_compatible_forms_do_not_count():
    assert len(set(ps.text_keys(["Straße ①", "STRASSE 1", "strasse\u00a01"]).tolist())) == 1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("hello?", "hello ?"), ("well , yes !", "well, yes!"), ("don't", "don\u2019t"), ("don't", "don\u00b4t"),
        ('a "b" c', "a \u201cb\u201d c"), ('a "b" c', "a \u201eb\u201c c"), ('"b"', "\u00abb\u00bb"),
        ("a-b", "a\u2013b"), ("a-b", "a\u2011b"), ("wait...", "wait\u2026"), ("card", "\ufeffcard"),
        ('say "hi" now', "say \u00ab\u00a0hi\u00a0\u00bb now"), ('say "hi" now', "say \u00ab hi \u00bb now"),
        ('"a" or "b"', "\u00bba\u00ab or \u00bbb\u00ab"), ("'a'", "\u2039a\u203a"), ('say "hi"', "say ``hi''"),
        ("what?!", "what ? !"), ("5%", "5\u202f%"), ("(a) b", "( a ) b"), ("\u00bfhola?", "\u00bf hola ?"),
        ("\u0643\u062a\u061f", "\u0643\u0640\u062a \u061f"), ("\u4f60\u597d\u3002", "\u4f60\u597d \u3002"),
        ("card", "c\u034fard\ufe0f"), ("card", "ca\x00rd"), ("caf\u00e9", "cafe\u200b\u0301"), ("1/2", "\u00bd"),
        ("card", "\u3164card"), ("\u0390", "\u0399\u0308\u0301"), ("a / b", "a \u2215 b"),
        ("lost card", "lost\u200b card\u200d"), ("cooperate", "co\u00adoperate"), ("a b", "a\u2060 b\u200e"),
    ],
)  # fmt: skip
def test_quotes_dashes_and_characters_without_width_do_not_count(text, same):
    first, second = ps.text_keys([text, same])
    assert first == second


def test_words_and_marks_count():
    texts = ["its", "it's", "a-b", "a b", "ab", "hello", "hello?", "hello!", "naïve", "naive", "`a`", "'a'", '"a"',
             "is.5", "is .5", "use.net", "use .net", "sagt \u00bba\u00ab laut", "sagt\u00bba\u00ablaut"]  # fmt: skip
    assert len(set(ps.text_keys(texts).tolist())) == len(texts)


def test_other_texts_have_other_keys():
    assert len(set(ps.text_keys([f"text {number}" for number in range(20_000)]).tolist())) == 20_000


def test_keys_are_the_same_everywhere():
    assert ps.text_keys(["a card"]).tolist() == ps.text_keys(iter(["A  card"])).tolist()
    assert ps.text_keys([]).shape == (0,)


def test_what_is_no_text_is_named():
    with pytest.raises(TypeError, match="text 1 is None"):
        ps.text_keys(["a", None])
