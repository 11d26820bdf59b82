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


def test_other_texts_have_other_keys():
    assert len(set(ps.text_keys([f"text {number}" for number in range(20_000)]).tolist())) == 20_000


def test_keys_are_the_same_everywhere():
    assert ps.text_keys(["a card"]).tolist() == ps.text_keys(iter(["A  card"])).tolist()
    assert ps.text_keys([]).shape == (0,)


def test_what_is_no_text_is_named():
    with pytest.raises(TypeError, match="text 1 is None"):
        ps.text_keys(["a", None])
