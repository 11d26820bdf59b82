import numpy as np
import pytest

from pairsift.evaluate import detection


def test_detection_counts_pairs_in_the_right_order():
    scores = np.array([0.1, 0.9, 0.4, 0.4, np.nan])
    planted = np.array([False, True, True, False, True])
    # Of the four pairs of a planted and another example three are in order and one is tied.
    assert detection(scores, planted).auroc == pytest.approx(3.5 / 4)
    # Ranks: a planted one alone at the top, then a tie of one planted with one other.
    assert detection(scores, planted).average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("planted", [np.zeros(4, bool), np.ones(4, bool)])
def test_detection_needs_both_kinds(planted):
    with pytest.raises(ValueError, match="needs both kinds"):
        detection(np.arange(4.0), planted)
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
        detection(np.arange(3.0), planted)
